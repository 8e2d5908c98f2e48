// SPDX-License-Identifier: MIT
// Damaged files in bulk: cut off at every byte, every byte of the header changed to every value, numbers replaced by extreme ones,
// random flips.  A reader either throws FormatError or yields something whole: every byte that it hands out is touched, so that the
// sanitizers see a view that is out of bounds.  The images are exactly as long as the files, in memory of their own.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/io/csv.hpp"
#include "lowbit/io/hugging_face.hpp"
#include "lowbit/io/model_files.hpp"
#include "lowbit/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"

namespace io_corruption_test {

namespace io = lowbit::io;
using lowbit::FormatError;
using lowbit_test::as_bytes;
using lowbit_test::image;

namespace {

// What the header says, in a file that has everything: metadata, a scalar, an empty tensor, several types.
const std::string small_header =
    R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
    R"("e":{"dtype":"I8","shape":[0,3],"data_offsets":[16,16]},"s":{"dtype":"F16","shape":[],"data_offsets":[16,18]},)"
    R"("q":{"dtype":"U8","shape":[5],"data_offsets":[18,23]}})";
const std::string small_data = "0123456789abcdefghijklm";

// False if the bytes are refused; true if they are accepted and whole.  Any other outcome fails the test.
bool accepts(const std::string& bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  std::optional<io::SafeTensors> file;
  try {
    file = io::SafeTensors::parse(as_bytes({exact.data(), exact.size()}), "m");
  } catch (const FormatError& error) {
    if (!std::string_view(error.what()).starts_with("m: ")) FAIL("no file in: " << error.what());
    return false;
  }
  // Independent of the reader: the tensors cover what follows the header, without gap or overlap, and their sizes fit.
  std::uint64_t length = 0;
  std::memcpy(&length, exact.data(), 8);
  const char* at = exact.data() + 8 + length;
  unsigned sum = 0;
  for (const io::TensorView& tensor : file->tensors()) {
    const char* begin = reinterpret_cast<const char*>(tensor.data.data());
    std::size_t bits = io::dtype_bits(tensor.dtype);
    for (const std::size_t n : tensor.shape) bits *= n;
    if (begin != at || bits != tensor.data.size() * 8 || &file->at(tensor.name) != &tensor)
      FAIL("accepted, but not whole: " << tensor.name);
    for (const std::byte b : tensor.data) sum += static_cast<unsigned>(b);
    at += tensor.data.size();
  }
  unsigned expected = 0;
  for (const char* p = exact.data() + 8 + length; p != exact.data() + exact.size(); ++p) expected += static_cast<unsigned char>(*p);
  if (at != exact.data() + exact.size() || sum != expected) FAIL("accepted, but its tensors do not cover the file");
  return true;
}

// The same for readers of text: true if `read` takes it, false if it throws FormatError; any other exception fails the test.
template <class Read>
bool takes(Read&& read, const std::string& text) {
  const std::vector<char> exact(text.begin(), text.end());
  try {
    read(std::string_view(exact.data(), exact.size()));
    return true;
  } catch (const FormatError&) {
    return false;
  }
}

}  // namespace

TEST_CASE("a safetensors file cut off at any byte, or with bytes after its end, is refused") {
  const std::string whole = image(small_header, small_data);
  REQUIRE(accepts(whole));
  std::size_t refused = 0;
  for (std::size_t n = 0; n < whole.size(); ++n) refused += !accepts(whole.substr(0, n));
  CHECK(refused == whole.size());
  CHECK(!accepts(whole + std::string(1, '\0')));
  CHECK(!accepts(whole + whole));

  for (const char* name : {"model/tiny_4bit.safetensors", "model/tiny_8bit.safetensors"}) {
    const std::string golden = lowbit_test::read_bytes(lowbit_test::data_path(name));
    REQUIRE(accepts(golden));
    std::size_t golden_refused = 0, golden_cut = 0;
    for (std::size_t n = 0; n < golden.size(); n += 1 + n / 64, ++golden_cut) golden_refused += !accepts(golden.substr(0, n));
    CHECK(golden_refused == golden_cut);
  }
}

TEST_CASE("every byte before the data changed") {
  const std::string whole = image(small_header, small_data);
  const std::size_t end = 8 + small_header.size();
  std::size_t accepted = 0, tried = 0;
  std::string changed = whole;
  for (std::size_t i = 0; i < end; ++i) {
    for (int value = 0; value < 256; ++value) {
      // The length takes every value; in the header one flipped bit, or a character that means something to JSON, is enough.
      const bool one_bit = std::has_single_bit(static_cast<unsigned>(value ^ static_cast<unsigned char>(whole[i])));
      const bool meaningful =
          std::string_view("{}[]\",:0129-e.\\u tnF\x80").find(static_cast<char>(value)) != std::string_view::npos;
      changed[i] = static_cast<char>(value);
      if (changed[i] == whole[i] || (i >= 8 && !one_bit && !meaningful)) continue;
      ++tried;
      accepted += accepts(changed);
    }
    changed[i] = whole[i];
  }
  // Other letters in the names and in the metadata, and the empty tensor's 3; all else is refused.
  CHECK(accepted > 50);
  CHECK(accepted < tried / 10);
}

TEST_CASE("every number in a header replaced by an extreme one") {
  std::size_t tried = 0;
  for (std::size_t i = 0; i < small_header.size(); ++i) {
    if (small_header[i] != '[' && small_header[i] != ',') continue;
    const std::size_t begin = i + 1, digits = small_header.find_first_not_of("0123456789", begin) - begin;
    if (digits == 0) continue;
    const std::string old = small_header.substr(begin, digits);
    for (const char* number : {"0",
                               "1",
                               "17",
                               "24",
                               "4294967296",
                               "2305843009213693952",
                               "4611686018427387904",
                               "9223372036854775807",
                               "9223372036854775808",
                               "18446744073709551599",
                               "18446744073709551615",
                               "18446744073709551616",
                               "1e1",
                               "2.0",
                               "-1",
                               "-9223372036854775808",
                               "-0",
                               "1e400",
                               "null",
                               "[]",
                               "{}",
                               "\"2\"",
                               "true",
                               "2,2",
                               ""}) {
      if (old == number) continue;
      CAPTURE(old, number);
      ++tried;
      std::string header = small_header;
      header.replace(begin, digits, number);
      // Only the other extent of the empty tensor is free; its offsets and the rest are fixed by each other.
      const bool is_free = old == "3" && std::string_view(number).find_first_not_of("0123456789,") == std::string_view::npos &&
                           *number != '\0' && std::string(number) != "18446744073709551616";
      CHECK(accepts(image(header, small_data)) == is_free);
    }
  }
  CHECK(tried == 13 * 25 - 2);  // thirteen numbers, two of them already 0
}

TEST_CASE("random damage to a safetensors file") {
  const std::string whole = image(small_header, small_data);
  std::mt19937 random(20240607);
  const std::string alphabet = "{}[]\",:0123456789-eE.\\u tfn\xFF\x80";
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::size_t accepted = 0, refused = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string damaged = whole;
    for (std::size_t n = 1 + below(4); n > 0; --n) {
      const std::size_t at = below(damaged.size());
      switch (below(5)) {
        case 0: damaged[at] = static_cast<char>(damaged[at] ^ (1 << below(8))); break;
        case 1: damaged[at] = alphabet[below(alphabet.size())]; break;
        case 2: damaged.erase(at, 1 + below(8)); break;
        case 3: damaged.insert(at, 1, alphabet[below(alphabet.size())]); break;
        default: damaged.insert(at, damaged.substr(below(damaged.size()), below(40))); break;
      }
      if (damaged.empty()) damaged = whole;
    }
    // Half of them with a length that fits again, or else hardly one would get past the first check.
    if (below(2) == 0 && damaged.size() > 8 + small_data.size())
      damaged =
          image(damaged.substr(8, damaged.size() - 8 - small_data.size()), damaged.substr(damaged.size() - small_data.size()));
    ++(accepts(damaged) ? accepted : refused);
  }
  CHECK(accepted > 100);
  CHECK(refused > 5'000);
}

TEST_CASE("random damage to config.json, an index and a CSV file") {
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const auto damage = [&](const std::string& whole, std::string_view alphabet, int rounds, auto&& read) {
    REQUIRE(takes(read, whole));
    std::size_t taken = 0;
    for (std::size_t n = 0; n < whole.size(); ++n) takes(read, whole.substr(0, n));
    for (int round = 0; round < rounds; ++round) {
      std::string damaged = whole;
      for (std::size_t n = 1 + below(3); n > 0 && !damaged.empty(); --n) {
        const std::size_t at = below(damaged.size());
        if (below(3) == 0)
          damaged.erase(at, 1 + below(6));
        else if (below(2) == 0)
          damaged[at] = static_cast<char>(random());
        else
          damaged.insert(at, 1, alphabet[below(alphabet.size())]);
      }
      taken += takes(read, damaged);
    }
    CHECK(taken > 0);
    CHECK(taken < static_cast<std::size_t>(rounds));
  };

  const std::string json_alphabet = "{}[]\",:0123456789-eE.\\u";
  damage(
      R"({"model_type":"gpt2","n_layer":2,"n_head":4,"n_embd":32,"n_positions":16,"vocab_size":50,"n_inner":null,"eos_token_id":49,)"
      R"("layer_norm_epsilon":1e-05,"id2label":{"0":"a","1":"b"},"architectures":["A"],"quantization_config":{"load_in_8bit":true}})",
      json_alphabet, 10'000, [](std::string_view text) {
        const io::HuggingFaceConfig c = io::parse_config(text, "c");
        if (c.heads == 0 || c.width % c.heads != 0 || c.layers == 0 || c.inner == 0 || c.vocab == 0 || c.positions == 0)
          FAIL("absurd");
      });

  damage("class,title,description\r\n1,\"a,\"\"b\"\"\",c\n\"4\",\"two\nlines\",\\\r\n2,,\n", "\",\r\n14\\", 20'000,
         [](std::string_view text) {
           for (const io::NewsRow& row : io::parse_news(text, "n.csv"))
             if (row.label < 0 || row.label > 3) FAIL("label out of range");
         });

  const lowbit_test::Folder folder;
  lowbit_test::put_file(folder / "s1.safetensors", image(small_header, small_data));
  lowbit_test::put_file(folder / "s2.safetensors", image(R"({"z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "z"));
  damage(R"({"metadata":{"total_size":24},"weight_map":{"w":"s1.safetensors","z":"s2.safetensors","s":"s1.safetensors"}})",
         json_alphabet, 300, [&](std::string_view text) {
           lowbit_test::put_file(folder / "model.safetensors.index.json", std::string(text));
           const io::ModelFiles files = io::open_folder_or_file(folder.path());
           for (const std::string& name : files.names())
             if (files.at(name).name != name) FAIL("another tensor");
         });
}

}  // namespace io_corruption_test
