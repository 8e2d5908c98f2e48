// SPDX-License-Identifier: MIT
// A list of malformed files, each of which is opened as a user's program would open it, by the public readers and from a disk, and is
// refused with a message of its own: it begins with the file, and no two of them are the same.  Damage in bulk is in
// io_corruption_test.cpp; this is what a person meets.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/gpt2/gguf.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/io/bitsandbytes_writer.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/io/stored_weights.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/gguf_image.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/random.hpp"

namespace malformed_files_test {

namespace fs = std::filesystem;
namespace io = lowbit::io;
using io::DType;
using lowbit::FormatError;
using lowbit_test::image;
using lowbit_test::gguf::key;
using lowbit_test::gguf::u32;
using lowbit_test::gguf::u64;
using Gguf = lowbit_test::gguf::Image;
using Words = std::initializer_list<std::string_view>;

namespace {

// The files that were refused, by what the messages say behind the file's name.
struct List {
  lowbit_test::Folder folder;
  std::map<std::string, std::string> messages;
  std::size_t files = 0;

  // Writes `content` as a file called `name`, and opens what `open` opens.  Whatever is wrong with the refusal is a failed check.
  void refuse(const std::string& what, const std::string& name, const std::string& content, Words words,
              const std::function<void(const fs::path&)>& open) {
    INFO(what);
    ++files;
    lowbit_test::put_file(folder / name, content);
    std::string message;
    try {
      open(folder / name);
    } catch (const FormatError& error) {
      message = error.what();
    } catch (const std::exception& error) {
      FAIL_CHECK("another type of error: " << error.what());
    }
    fs::remove(folder / name);
    const std::string path = (folder / name).string();
    if (message.size() > 1000) FAIL_CHECK("a message of " << message.size() << " bytes");
    if (!message.starts_with(path)) FAIL_CHECK("expected a message that begins with " << path << ", found: " << message);
    for (const std::string_view word : words)
      if (message.find(word) == message.npos) FAIL_CHECK("'" << word << "' is not in: " << message);
    const auto [first, is_new] = messages.emplace(message.substr(std::min(message.size(), path.size())), what);
    if (!is_new) FAIL_CHECK("the message of '" << first->second << "': " << message);
  }
};

// Everything that a file of weights holds.
void read_all(const fs::path& path) {
  const io::ModelFiles files = io::ModelFiles::open(path);
  for (const io::StoredWeight& w : io::stored_weights(files)) {
    if (w.kind == io::StoredWeight::Kind::plain) continue;
    const lowbit::Tensor t = io::read_quantized(files, w);
    std::vector<float> values(t.size());
    t.dequantize(values.data());
  }
}

std::string length(std::uint64_t n) { return u64(n); }

// A weight of 64 x 64 in the layout of bitsandbytes, tensor by tensor.
struct Entry {
  DType dtype;
  std::vector<std::size_t> shape;
  std::string bytes;
};
using Entries = std::map<std::string, Entry>;
std::string file_of(const Entries& entries) {
  std::vector<io::TensorToWrite> list;
  for (const auto& [name, e] : entries) list.push_back({name, e.dtype, e.shape, lowbit_test::as_bytes(e.bytes)});
  const std::vector<std::byte> bytes = io::serialize_safetensors(list);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
Entries entries_of(const io::StateDict& state) {
  Entries result;
  for (const io::TensorToWrite& t : state.tensors)
    result[t.name] = {t.dtype, t.shape, {reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()}};
  return result;
}
Entries nf4_weight() {
  const std::vector<float> w = lowbit_test::Random(3).normals(64 * 64);
  const lowbit::NF4Tensor<> tensor = lowbit::NF4Tensor<>::quantize(w.data(), 64, 64);
  io::StateDict state;
  io::add_four_bit(state, "w", tensor, "float32");
  return entries_of(state);
}
Entries int8_weight() {
  const std::vector<float> w = lowbit_test::Random(4).normals(8 * 16);
  const lowbit::LlmInt8Tensor tensor = lowbit::LlmInt8Tensor::quantize(w.data(), 8, 16);
  io::StateDict state;
  io::add_llm_int8(state, "m", tensor);
  return entries_of(state);
}

void safetensors(List& list) {
  const auto refuse = [&](const std::string& what, const std::string& content, Words words) {
    list.refuse(what, "f.safetensors", content, words, read_all);
  };
  const auto header = [&](const std::string& what, const std::string& text, Words words, const std::string& data = "") {
    refuse(what, image(text, data), words);
  };
  const auto tensor = [&](const std::string& what, const std::string& fields, Words words, const std::string& data = "01234567") {
    header(what, "{\"a\":" + fields + "}", words, data);
  };
  // The file.
  refuse("empty", "", {"8 bytes", "file of 0"});
  refuse("seven bytes", std::string("\1\0\0\0\0\0\0", 7), {"file of"});
  refuse("a length past the end", length(100) + "{}", {"100 bytes", "2 bytes in the file"});
  refuse("a length of 2^63", length(std::uint64_t{1} << 63) + "{}", {"at most 100000000", "9223372036854775808"});
  refuse("a length above the limit", length(100'000'001) + "{}", {"at most 100000000", "100000001"});
  refuse("an HTML page", "<!DOCTYPE html><title>404</title>", {"HTML page"});
  refuse("a git-LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", {"git-LFS"});
  refuse("a .bin file", "PK\x03\x04model/data.pkl", {"zip archive"});
  refuse("an older .bin file", "\x80\x02}q", {"pickle"});
  refuse("a GGUF file", Gguf().bytes(), {"GGUF"});
  refuse("an archive", "\x1F\x8B\x08", {"gzip"});
  refuse("another archive", std::string("\xFD") + "7zXZ", {"xz"});
  // The header.
  header("an array", "[1,2]", {"starts with {", "[1,2]"});
  header("cut JSON", R"({"a":{"dtype":"F32")", {"not JSON"});
  header("a zero byte", std::string("{\"a\0b\":1}", 9), {"NUL"});
  header("not UTF-8", "{\"\xFF\xFE\":1}", {"not JSON"});
  header("a key twice", R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}})", {"\"a\" occurs twice"});
  header("deep nesting", "{\"a\":" + std::string(100'000, '[') + "}", {"deep"});
  header("a huge number", R"({"a":1e999})", {"1e999"});
  header("metadata that is a list", R"({"__metadata__":[1]})", {"__metadata__", "array"});
  header("metadata that is a number", R"({"__metadata__":{"n":1}})", {"__metadata__", "\"n\"", "number"});
  header("metadata that nests", R"({"__metadata__":{"n":{}}})", {"__metadata__", "object"});
  // A tensor.
  tensor("no object", "7", {"\"a\"", "expected an object", "number"});
  tensor("an unknown field", R"({"dtype":"U8","shape":[8],"data_offsets":[0,8],"stride":1})", {"\"stride\""});
  tensor("no dtype", R"({"shape":[8],"data_offsets":[0,8]})", {"no dtype"});
  tensor("no shape", R"({"dtype":"U8","data_offsets":[0,8]})", {"no shape"});
  tensor("no offsets", R"({"dtype":"U8","shape":[8]})", {"no data_offsets"});
  tensor("an unknown dtype", R"({"dtype":"Q4_0","shape":[8],"data_offsets":[0,8]})", {"dtype", "Q4_0"});
  tensor("a dtype that is a number", R"({"dtype":7,"shape":[8],"data_offsets":[0,8]})", {"dtype", "7"});
  tensor("a shape that is a number", R"({"dtype":"U8","shape":8,"data_offsets":[0,8]})", {"shape", "array"});
  tensor("a negative size", R"({"dtype":"U8","shape":[-8],"data_offsets":[0,8]})", {"shape", "-8"});
  tensor("half a size", R"({"dtype":"U8","shape":[8.5],"data_offsets":[0,8]})", {"shape", "8.5"});
  tensor("a size of 2^64", R"({"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,8]})", {"shape"});
  tensor("sizes that overflow", R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})", {"fits in a size"});
  tensor("sizes that overflow to what is there", R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]})",
         {"fits in a size", "4611686018427387904"});
  tensor("three offsets", R"({"dtype":"U8","shape":[8],"data_offsets":[0,4,8]})", {"2 integers", "3"});
  tensor("offsets backwards", R"({"dtype":"U8","shape":[8],"data_offsets":[8,0]})", {"begin <= end", "[8, 0]"});
  tensor("an offset past the end", R"({"dtype":"U8","shape":[9],"data_offsets":[0,9]})", {"<= 8", "[0, 9]"});
  tensor("a file cut short", R"({"dtype":"U8","shape":[8],"data_offsets":[0,8]})", {"<= 5", "[0, 8]"}, "01234");
  tensor("bytes that do not fit the shape", R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", {"12 bytes", "found 8"});
  tensor("bytes behind the last", R"({"dtype":"U8","shape":[8],"data_offsets":[0,8]})", {"8 bytes of tensors", "found 10"},
         "0123456789");
  tensor("a hole before the first", R"({"dtype":"U8","shape":[6],"data_offsets":[2,8]})", {"hole", "found 2"});
  header("an overlap",
         R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
         {"\"b\"", "overlap"}, "01234567");
  header("a hole", R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
         {"\"b\"", "hole"}, "01234567");
}

void nested_state(List& list) {
  const std::string state = "w.quant_state.bitsandbytes__nf4";
  const auto refuse = [&](const std::string& what, Words words, const std::function<void(Entries&)>& bend) {
    Entries entries = nf4_weight();
    bend(entries);
    list.refuse(what, "f.safetensors", file_of(entries), words, read_all);
  };
  const auto changed = [&](const std::string& what, const std::string& from, const std::string& to, Words words) {
    refuse(what, words, [&](Entries& e) {
      std::string& text = e[state].bytes;
      REQUIRE(text.find(from) != text.npos);
      text.replace(text.find(from), from.size(), to);
      e[state].shape = {text.size()};
    });
  };
  for (const std::string part : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"})
    refuse("no " + part, {"\"w" + part + "\""}, [&](Entries& e) { e.erase("w" + part); });
  refuse("codes cut short", {"\"w\"", "2048 bytes", "2040"}, [](Entries& e) {
    e["w"].bytes.resize(2040);
    e["w"].shape = {2040, 1};
  });
  refuse("a scale too few", {"w.absmax", "64", "63"}, [](Entries& e) {
    e["w.absmax"].bytes.resize(63);
    e["w.absmax"].shape = {63};
  });
  refuse("scales of another type", {"w.absmax", "I16"}, [](Entries& e) {
    e["w.absmax"].bytes.resize(128);
    e["w.absmax"].dtype = DType::I16;
  });
  refuse("a table of fifteen", {"w.quant_map", "16", "15"}, [](Entries& e) {
    e["w.quant_map"].bytes.resize(60);
    e["w.quant_map"].shape = {15};
  });
  refuse("a map of 255", {"w.nested_quant_map", "256", "255"}, [](Entries& e) {
    e["w.nested_quant_map"].bytes.resize(1020);
    e["w.nested_quant_map"].shape = {255};
  });
  refuse("nested scales that are missing", {"w.nested_absmax", "1 elements", "found 0"}, [](Entries& e) {
    e["w.nested_absmax"].bytes.clear();
    e["w.nested_absmax"].shape = {0};
  });
  refuse("a state of another type", {state, "I8"}, [&](Entries& e) { e[state].dtype = DType::I8; });
  refuse("a state that is no JSON", {state, "not JSON"}, [&](Entries& e) { e[state].bytes[0] = '['; });
  changed("another kind of quantization", "\"nf4\"", "\"fp8\"", {state, "quant_type", "\"nf4\""});
  changed("a block of 48", "\"blocksize\": 64", "\"blocksize\": 48", {state, "blocksize", "power of two"});
  changed("no block", "\"blocksize\"", "\"block\"", {state, "blocksize", "nothing"});
  changed("a shape of one size", "[64, 64]", "[4096]", {state, "shape", "[out, in]"});
  changed("a shape that overflows", "[64, 64]", "[4294967296, 4294967297]", {state, "shape", "fits in a size"});
  changed("a larger shape", "[64, 64]", "[64, 66]", {"\"w\"", "2112 bytes", "found 2048"});
  changed("no dtype", "\"dtype\": \"float32\",", "", {state, "dtype", "nothing"});
  changed("nested blocks of 128", "\"nested_blocksize\": 256", "\"nested_blocksize\": 128", {state, "nested_blocksize", "256"});
  changed("nested scales in 16 bits", "\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"bfloat16\"",
          {state, "nested_dtype", "bfloat16"});
  changed("no offset", "\"nested_offset\"", "\"offset\"", {state, "nested_offset", "nothing"});
  changed("an offset that is no number",
          "\"nested_offset\": ", "\"nested_offset\": NaN, \"x\": ", {state, "nested_offset", "fits in a float"});

  const auto refuse_int8 = [&](const std::string& what, Words words, const std::function<void(Entries&)>& bend) {
    Entries entries = int8_weight();
    bend(entries);
    list.refuse(what, "f.safetensors", file_of(entries), words, read_all);
  };
  refuse_int8("LLM.int8() in tiles", {"m.weight_format", "row-major"}, [](Entries& e) { e["m.weight_format"].bytes = "\2"; });
  refuse_int8("LLM.int8() with seven scales", {"m.SCB", "8", "7"}, [](Entries& e) {
    e["m.SCB"].bytes.resize(28);
    e["m.SCB"].shape = {7};
  });
  refuse_int8("LLM.int8() of three sizes", {"m.weight", "[out, in]"}, [](Entries& e) { e["m.weight"].shape = {2, 4, 16}; });
  refuse_int8("int8 with a scale too few", {"m.weight_scale", "8", "7"}, [](Entries& e) {
    e["m.weight_scale"] = {DType::F32, {7}, std::string(28, '\1')};
    e.erase("m.SCB");
    e.erase("m.weight_format");
  });
}

void folders(List& list) {
  const auto index = [&](const std::string& what, const std::string& content, Words words) {
    list.refuse(what, "model.safetensors.index.json", content, words, read_all);
  };
  lowbit_test::put_file(list.folder / "s.safetensors", image(R"({"z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "z"));
  index("an index that is a list", "[]", {"expected an object", "array"});
  index("an index without a map", R"({"metadata":{}})", {"weight_map"});
  index("a file that is a number", R"({"weight_map":{"z":1}})", {"\"z\"", "file name", "number"});
  index("a file outside the folder", R"({"weight_map":{"z":"../../etc/passwd"}})", {"same folder", "passwd"});
  index("a file that is not there", R"({"weight_map":{"z":"t.safetensors"}})", {"t.safetensors", "missing"});
  index("a tensor that is not there", R"({"weight_map":{"y":"s.safetensors"}})", {"\"y\"", "no such tensor"});
  index("an index that is a web page", "<html>", {"expected JSON", "HTML"});

  const std::string sizes = R"("n_layer":2,"n_head":4,"n_embd":32,"n_positions":16,"vocab_size":50)";
  const auto config = [&](const std::string& what, const std::string& content, Words words) {
    list.refuse(what, "config.json", content, words,
                [](const fs::path& path) { io::parse_config(io::read_text(path), path.string()); });
  };
  config("another model", R"({"model_type":"llama",)" + sizes + "}", {"model_type", "gpt2", "llama"});
  config("a size that is missing", R"({"model_type":"gpt2","n_layer":2})", {"expected", "nothing"});
  config("no layers", R"({"model_type":"gpt2","n_layer":0,"n_head":4,"n_embd":32,"n_positions":16,"vocab_size":50})",
         {"n_layer", "0"});
  config("1e18 tokens",
         R"({"model_type":"gpt2","n_layer":2,"n_head":4,"n_embd":32,"n_positions":16,"vocab_size":1000000000000000000})",
         {"vocab_size"});
  config("heads that do not divide", R"({"model_type":"gpt2","n_layer":2,"n_head":5,"n_embd":32,"n_positions":16,"vocab_size":50})",
         {"n_head", "divisor of n_embd = 32"});
  config("an epsilon of 2", R"({"model_type":"gpt2","layer_norm_epsilon":2,)" + sizes + "}", {"layer_norm_epsilon"});
  config("labels that are a list", R"({"model_type":"gpt2","id2label":["a"],)" + sizes + "}", {"id2label", "object"});
  config("another quantization", R"({"model_type":"gpt2","quantization_config":{"quant_method":"gptq"},)" + sizes + "}",
         {"quant_method", "bitsandbytes", "gptq"});
}

void gguf(List& list) {
  const auto read = [](const fs::path& path) {
    const io::Gguf file = io::Gguf::open(path);
    for (const io::GgufTensor& t : file.tensors()) {
      const lowbit::Tensor tensor = io::read_gguf(t);
      std::vector<float> values(tensor.size());
      tensor.dequantize(values.data());
    }
  };
  const auto refuse = [&](const std::string& what, Words words, const std::function<void(Gguf&)>& bend) {
    Gguf g = lowbit_test::gguf::small();
    bend(g);
    list.refuse(what, "f.gguf", g.bytes(), words, read);
  };
  const std::uint64_t bomb = std::uint64_t{1} << 40;
  list.refuse("no GGUF at all", "f.gguf", "", {"begins with GGUF"}, read);
  list.refuse("GGUF and no more", "f.gguf", "GGUF", {"version", "end of the file"}, read);
  refuse("an older format", {"begins with GGUF", "\"GGJT\""}, [](Gguf& g) { g.magic = "GGJT"; });
  refuse("version 1", {"version", "found 1"}, [](Gguf& g) { g.version = 1; });
  refuse("big-endian", {"big-endian"}, [](Gguf& g) { g.version = 0x03000000; });
  refuse("2^60 tensors", {"number of tensors", "room for"}, [](Gguf& g) { g.more_tensors = std::int64_t{1} << 60; });
  refuse("a tensor too many", {"the end of the file"}, [](Gguf& g) {
    g.tensors.clear();
    g.keys.clear();
    g.more_tensors = 1;
    g.alignment = 64;
    g.keys.push_back(key("general.alignment", 4, u32(64)));
  });
  refuse("2^61 keys", {"number of keys", "room for"}, [](Gguf& g) { g.more_keys = std::int64_t{1} << 61; });
  refuse("a key without a name", {"key 1", "name"}, [](Gguf& g) { g.keys[1] = key("", 4, u32(7)); });
  refuse("a name of 2^64 - 1 bytes", {"key 1", "length"}, [](Gguf& g) { g.keys[1] = u64(~std::uint64_t{0}); });
  refuse("a key twice", {"\"n\"", "twice"}, [](Gguf& g) { g.keys.push_back(g.keys[1]); });
  refuse("a value of type 13", {"\"n\"", "found 13"}, [](Gguf& g) { g.keys[1] = key("n", 13, u32(7)); });
  refuse("a truth of 2", {"\"n\"", "found 2"}, [](Gguf& g) { g.keys[1] = key("n", 7, "\2"); });
  refuse("a text of 2^40 bytes", {"\"n\"", "length"}, [=](Gguf& g) { g.keys[1] = key("n", 8, u64(bomb)); });
  refuse("2^40 texts", {"\"list\"", "number of elements"}, [=](Gguf& g) { g.keys[2] = key("list", 9, u32(8) + u64(bomb)); });
  refuse("2^40 empty lists", {"\"list\"", "number of elements"},
         [=](Gguf& g) { g.keys[2] = key("list", 9, u32(9) + u64(bomb + 1)); });
  refuse("elements of type 99", {"\"list\"", "found 99"}, [](Gguf& g) { g.keys[2] = key("list", 9, u32(99) + u64(1)); });
  refuse("lists in lists in lists", {"\"list\"", "4 deep"}, [](Gguf& g) {
    std::string nested = u32(0) + u64(0);
    for (int d = 0; d < 5; ++d) nested = u32(9) + u64(1) + nested;
    g.keys[2] = key("list", 9, nested);
  });
  refuse("an alignment of 0", {"general.alignment", "found 0"},
         [](Gguf& g) { g.keys.push_back(key("general.alignment", 4, u32(0))); });
  refuse("an alignment that is a page of text", {"general.alignment", "found \"xxx"},
         [](Gguf& g) { g.keys.push_back(key("general.alignment", 8, lowbit_test::gguf::text(std::string(5000, 'x')))); });
  refuse("an alignment of 48", {"general.alignment", "found 48"},
         [](Gguf& g) { g.keys.push_back(key("general.alignment", 4, u32(48))); });
  refuse("five dimensions", {"\"a\"", "found 5"}, [](Gguf& g) { g.tensors[0].dimensions = {1, 1, 1, 1, 6}; });
  refuse("a shape that overflows", {"\"a\"", "fits in a size"}, [](Gguf& g) {
    g.tensors[0].dimensions = {std::uint64_t{1} << 32, std::uint64_t{1} << 32};
  });
  refuse("a shape that is larger", {"\"a\"", "2400 bytes", "cut short"}, [](Gguf& g) { g.tensors[0].dimensions = {2, 300}; });
  refuse("a type that is gone", {"\"a\"", "number 4"}, [](Gguf& g) { g.tensors[0].type = 4; });
  refuse("a type to come", {"\"a\"", "number 1000"}, [](Gguf& g) { g.tensors[0].type = 1000; });
  refuse("half a block", {"\"a\"", "blocks of 32", "Q4_0"}, [](Gguf& g) { g.tensors[0].type = 2; });
  refuse("a tensor twice", {"\"a\"", "twice"}, [](Gguf& g) { g.tensors[1].name = "a"; });
  refuse("an offset between", {"\"b\"", "multiple of 32", "40"}, [](Gguf& g) { g.tensors[1].shift = 8; });
  refuse("an offset past the end", {"\"b\"", "offset 64"}, [](Gguf& g) { g.tensors[1].shift = 32; });
  refuse("an offset of 2^62", {"\"b\"", "bytes of data"}, [](Gguf& g) { g.tensors[1].shift = std::int64_t{1} << 62; });
  refuse("an overlap", {"\"b\"", "overlaps tensor \"a\""}, [](Gguf& g) { g.tensors[1].shift = -32; });
  refuse("the last byte gone", {"\"b\"", "99 bytes of data"}, [](Gguf& g) { g.cut = 1; });
  refuse("a type that is not read", {"\"k\"", "Q6_K"}, [](Gguf& g) { g.tensors = {{"k", {256}, 14, std::string(210, '\1'), 0}}; });
  refuse("a code of -128", {"\"b\"", "-128"}, [](Gguf& g) { g.tensors[1].data[40] = '\x80'; });
  refuse("three dimensions", {"\"t\"", "matrix", "[2, 1, 1]"}, [](Gguf& g) {
    g.tensors = {{"t", {1, 1, 2}, 0, std::string(8, '\0'), 0}};
  });

  const auto model = [&](const std::string& what, Words words, const std::function<void(Gguf&)>& bend) {
    Gguf g;
    g.keys = {key("general.architecture", 8, lowbit_test::gguf::text("gpt2")),
              key("gpt2.block_count", 4, u32(1)),
              key("gpt2.embedding_length", 4, u32(8)),
              key("gpt2.attention.head_count", 4, u32(2)),
              key("gpt2.feed_forward_length", 4, u32(32)),
              key("gpt2.context_length", 4, u32(4))};
    g.tensors = {{"token_embd.weight", {8, 3}, 0, std::string(96, '\0'), 0}};
    bend(g);
    list.refuse(what, "f.gguf", g.bytes(), words, [](const fs::path& path) {
      const lowbit::gpt2::GgufParameters parameters(path);
      parameters.tokenizer();
    });
  };
  model("another architecture", {"general.architecture", "llama"},
        [](Gguf& g) { g.keys[0] = key("general.architecture", 8, lowbit_test::gguf::text("llama")); });
  model("no architecture", {"general.architecture", "nothing"}, [](Gguf& g) { g.keys.erase(g.keys.begin()); });
  model("no layers", {"gpt2.block_count", "found 0"}, [](Gguf& g) { g.keys[1] = key("gpt2.block_count", 4, u32(0)); });
  model("layers as a text", {"gpt2.block_count", "\"1\""},
        [](Gguf& g) { g.keys[1] = key("gpt2.block_count", 8, lowbit_test::gguf::text("1")); });
  model("layers as a long list", {"gpt2.block_count", "found array"},
        [](Gguf& g) { g.keys[1] = key("gpt2.block_count", 9, u32(4) + u64(4000) + std::string(16000, '\1')); });
  model("heads that do not divide", {"head_count", "divisor of 8", "3"},
        [](Gguf& g) { g.keys[3] = key("gpt2.attention.head_count", 4, u32(3)); });
  model("no embedding", {"token_embd.weight"}, [](Gguf& g) { g.tensors[0].name = "x"; });
  for (const float epsilon : {0.0f, 1.0f})
    model("an epsilon of " + lowbit::decimal(epsilon), {"layer_norm_epsilon", "above 0", epsilon == 0 ? "found 0" : "found 1"},
          [epsilon](Gguf& g) { g.keys.push_back(key("gpt2.attention.layer_norm_epsilon", 6, lowbit_test::gguf::raw(epsilon))); });
  model("an embedding in one dimension", {"token_embd.weight", "[vocabulary, width]", "[24]"},
        [](Gguf& g) { g.tensors[0].dimensions = {24}; });
  model("no tokenizer", {"tokenizer.ggml.model", "found nothing"}, [](Gguf&) {});
  model("tokens that are numbers", {"tokenizer.ggml.tokens", "array of strings"}, [](Gguf& g) {
    g.keys.push_back(key("tokenizer.ggml.model", 8, lowbit_test::gguf::text("gpt2")));
    g.keys.push_back(key("tokenizer.ggml.tokens", 9, u32(4) + u64(1) + u32(1)));
  });
  model("types of other tokens", {"tokenizer.ggml.token_type", "array of 1 numbers"}, [](Gguf& g) {
    g.keys.push_back(key("tokenizer.ggml.model", 8, lowbit_test::gguf::text("gpt2")));
    g.keys.push_back(key("tokenizer.ggml.tokens", 9, u32(8) + u64(1) + lowbit_test::gguf::text("a")));
    g.keys.push_back(key("tokenizer.ggml.merges", 9, u32(8) + u64(0)));
    g.keys.push_back(key("tokenizer.ggml.token_type", 9, u32(5) + u64(2) + u32(1) + u32(1)));
  });
}

}  // namespace

TEST_CASE("malformed files: each is refused with a message of its own") {
  read_all([] {
    static const lowbit_test::Folder folder;
    Entries all = nf4_weight();
    all.merge(int8_weight());
    lowbit_test::put_file(folder / "whole.safetensors", file_of(all));
    return folder / "whole.safetensors";
  }());
  List list;
  safetensors(list);
  nested_state(list);
  folders(list);
  gguf(list);
  std::printf("%zu malformed files, %zu messages\n", list.files, list.messages.size());
  CHECK(list.files == list.messages.size());
  CHECK(list.files > 130);  // as the pages say
}

}  // namespace malformed_files_test
