// SPDX-License-Identifier: MIT
// Much of everything: rows without end through one process, a vocabulary of 262,144 tokens, rows of 1,024 tokens.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <sys/resource.h>
#include <utility>
#include <vector>

#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"

namespace load_test {

namespace fs = std::filesystem;
namespace io = lowbit::io;
using lowbit_test::Folder;
using lowbit_test::put_file;

namespace {

// The most memory that any child so far has held, in KiB.
long peak_of_children() {
  ::rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  return usage.ru_maxrss;
}

// One layer of width 16 over 262,144 tokens and 1,024 positions, and the tokenizer of such a vocabulary: bytes, pairs of letters, and
// pairs of pairs.
constexpr std::size_t vocab = 262144, positions = 1024, width = 16;

void write_tokenizer(const fs::path& folder) {
  std::string vocabulary = "{", merges = "#version: 0.2\n";
  std::size_t size = 0;
  const auto token = [&](const std::string& text) {
    if (size != 0) vocabulary += ',';
    vocabulary += "\"" + text + "\":" + std::to_string(size++);
  };
  // GPT-2's letters for the 256 bytes: those that can be seen as they are, the others from U+0100 on.
  unsigned moved = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool seen = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const unsigned c = seen ? byte : moved++;
    std::string text;
    if (c < 128) {
      if (c == '"' || c == '\\') text += '\\';
      text += static_cast<char>(c);
    } else {
      text += static_cast<char>(0xC0 | (c >> 6));
      text += static_cast<char>(0x80 | (c & 63));
    }
    token(text);
  }
  std::vector<std::string> pairs;
  for (char a = 'a'; a <= 'z'; ++a)
    for (char b = 'a'; b <= 'z'; ++b) {
      pairs.push_back({a, b});
      token(pairs.back());
      merges += {a, ' ', b, '\n'};
    }
  for (std::size_t i = 0; size < vocab; ++i) {
    const std::string &left = pairs[i / pairs.size()], &right = pairs[i % pairs.size()];
    token(left + right);
    merges += left + " " + right + "\n";
  }
  put_file(folder / "vocab.json", vocabulary + "}");
  put_file(folder / "merges.txt", merges);
}

void write_model(const fs::path& folder) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<std::vector<float>> values;
  std::vector<io::TensorToWrite> tensors;
  const auto add = [&](const std::string& name, std::vector<std::size_t> shape, float mean = 0) {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    std::vector<float>& v = values.emplace_back(n);
    for (float& x : v) x = mean + normal(random);
    tensors.push_back({name, io::DType::F32, std::move(shape), std::as_bytes(std::span(v))});
  };
  values.reserve(16);
  add("transformer.wte.weight", {vocab, width});
  add("transformer.wpe.weight", {positions, width});
  for (const char* norm : {"h.0.ln_1", "h.0.ln_2", "ln_f"}) {
    add("transformer." + std::string(norm) + ".weight", {width}, 1);
    add("transformer." + std::string(norm) + ".bias", {width});
  }
  const auto linear = [&](const std::string& name, std::size_t in, std::size_t out) {
    add("transformer.h.0." + name + ".weight", {in, out});
    add("transformer.h.0." + name + ".bias", {out});
  };
  linear("attn.c_attn", width, 3 * width);
  linear("attn.c_proj", width, width);
  linear("mlp.c_fc", width, 4 * width);
  linear("mlp.c_proj", 4 * width, width);
  add("score.weight", {4, width});
  io::write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  put_file(folder / "config.json",
           R"({"model_type":"gpt2","n_layer":1,"n_head":2,"n_embd":16,"n_positions":1024,"vocab_size":262144,"n_inner":64,)"
           R"("activation_function":"gelu_new","layer_norm_epsilon":1e-5,)"
           R"("id2label":{"0":"a","1":"b","2":"c","3":"d"}})");
}

}  // namespace

TEST_CASE("classify: memory does not grow with the rows that it reads") {
  const Folder folder;
  const auto news = io::read_news(lowbit::testing::assets_dir() / "news_items.csv");
  const auto rows = [&](const char* name, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += news[i % news.size()].title + " " + news[i % news.size()].description + "\n";
    put_file(folder / name, text);
    const std::string model = (lowbit::testing::assets_dir() / "gpt2-mini-ag-news").string();
    const auto outcome =
        lowbit_test::Process("/bin/sh", folder, {"-c", R"(exec "$0" "$1" <"$2")", CLASSIFY, model, (folder / name).string()})
            .wait();
    REQUIRE(outcome.code == 0);
    CHECK(static_cast<std::size_t>(std::count(outcome.out.begin(), outcome.out.end(), '\n')) == count);
    return peak_of_children();
  };
  const long few = rows("few", 400), many = rows("many", 1000);  // the 400 have all lengths
  CAPTURE(few, many);
  if (!LOWBIT_TEST_SANITIZED) CHECK(many - few <= few / 100);
}

TEST_CASE("a vocabulary of 262,144 tokens, and rows of 1,024") {
  const Folder folder;
  write_tokenizer(folder.path());
  write_model(folder.path());
  const auto tokenizer = lowbit::gpt2::Tokenizer::load(folder.path());
  std::mt19937 random(4);
  std::string text;
  for (std::size_t i = 0; i < 8 * positions; ++i) text += static_cast<char>('a' + random() % 26);
  std::vector<std::int32_t> ids = tokenizer.encode(text);
  CHECK(tokenizer.decode(ids) == text);
  REQUIRE(ids.size() >= positions);
  ids.resize(positions);
  CHECK(*std::max_element(ids.begin(), ids.end()) > 200000);
  lowbit::ThreadPool pool(2);
  const auto whole = lowbit::gpt2::Model<lowbit::DenseTensor<float>>::load(folder.path());
  const auto small = lowbit::gpt2::Model<lowbit::NF4Tensor<>>::load(folder.path(), {.embeddings = lowbit::Format::int8});
  CHECK(small.memory().resident_bytes < whole.memory().resident_bytes / 2);
  const std::vector<float> expected = whole.classify(ids, pool), found = small.classify(ids, pool);
  REQUIRE(expected.size() == 4);
  double distance = 0, length = 0;
  for (std::size_t c = 0; c < 4; ++c) {
    REQUIRE(std::isfinite(found[c]));
    distance += std::pow(static_cast<double>(found[c] - expected[c]), 2);
    length += std::pow(static_cast<double>(expected[c]), 2);
  }
  CHECK(distance < 0.25 * length);
  ids.push_back(0);
  CHECK_THROWS_AS(small.classify(ids, pool), lowbit::InvalidArgument);
}

}  // namespace load_test
