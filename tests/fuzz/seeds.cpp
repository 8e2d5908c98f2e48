// SPDX-License-Identifier: MIT
// Writes what the fuzz targets begin with: small files cut from those that the project holds, or made by its own writers.
//   fuzz_seeds FOLDER      FOLDER/<target>/<name>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "fuzz/small_tokenizer.hpp"
#include "fuzz/small_training.hpp"
#include "lowbit/io/bitsandbytes_writer.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/io/stored_weights.hpp"
#include "lowbit/tensor/dense_tensor.hpp"
#include "lowbit/tensor/packed_tensor.hpp"
#include "support/gguf_image.hpp"
#include "support/random.hpp"

namespace {

namespace fs = std::filesystem;
namespace io = lowbit::io;
namespace gguf = lowbit_test::gguf;

const fs::path data = LOWBIT_TEST_DATA, assets = LOWBIT_ASSETS;

struct Seeds {
  fs::path folder;
  void put(const std::string& target, const std::string& name, std::string_view content) const {
    fs::create_directories(folder / target);
    io::write_atomically(folder / target / name, content);
  }
  void put(const std::string& target, const std::string& name, std::span<const std::byte> content) const {
    put(target, name, std::string_view(reinterpret_cast<const char*>(content.data()), content.size()));
  }
};

std::vector<std::byte> file_of(const io::TensorSource& source, const std::vector<std::string>& names) {
  std::vector<io::TensorToWrite> list;
  for (const std::string& name : names) {
    const io::TensorView& t = source.at(name);
    list.push_back({t.name, t.dtype, t.shape, t.data});
  }
  return io::serialize_safetensors(list, {{"format", "pt"}});
}

// Small checkpoints with every key, weight by weight; the same under the names that the mutator knows.
void safetensors(const Seeds& seeds) {
  const auto mini = io::SafeTensors::open(assets / "gpt2-mini-ag-news" / "model.safetensors");
  seeds.put("safetensors", "mini", file_of(mini, {"transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias"}));
  int number = 0;
  for (const char* name : {"tiny_4bit.safetensors", "tiny_8bit.safetensors"}) {
    const auto tiny = io::SafeTensors::open(data / "model" / name);
    for (const io::StoredWeight& w : io::stored_weights(tiny)) {
      const std::string file = std::string(name).substr(0, 9) + "_" + std::to_string(number++);
      seeds.put("safetensors", file, file_of(tiny, w.parts));
      if (w.kind == io::StoredWeight::Kind::plain) continue;
      std::vector<io::TensorToWrite> list;
      for (const std::string& part : w.parts) {
        const io::TensorView& t = tiny.at(part);
        const bool four_bit = w.kind == io::StoredWeight::Kind::four_bit;
        const std::size_t common = four_bit ? w.name.size() : io::module_name(w.name).size();
        list.push_back({(four_bit ? "w" : "m") + part.substr(common), t.dtype, t.shape, t.data});
      }
      seeds.put("bitsandbytes", file, io::serialize_safetensors(list));
    }
  }
  // What the golden files leave out: rows that blocks cross, an odd number of elements, another type for the codes.
  lowbit_test::Random random(1);
  const std::vector<float> w = random.normals(7 * 64);
  for (const bool twice : {false, true}) {
    lowbit::FourBitOptions options;
    options.double_quantized = twice;
    io::StateDict fp4, odd;
    io::add_four_bit(fp4, "w", lowbit::FourBitTensor<lowbit::Fp4, 64, lowbit::AnyAbsmax>::quantize(w.data(), 4, 64, options),
                     "bfloat16", io::DType::BF16);
    io::add_four_bit(odd, "w", lowbit::FourBitTensor<lowbit::Nf4, 64, lowbit::AnyAbsmax>::quantize(w.data(), 7, 33, options),
                     "float16");
    seeds.put("bitsandbytes", twice ? "fp4_twice" : "fp4", io::serialize_safetensors(fp4.tensors));
    seeds.put("bitsandbytes", twice ? "odd_twice" : "odd", io::serialize_safetensors(odd.tensors));
  }
  const std::vector<std::byte> codes(3 * 8, std::byte{7}), scales(3 * 4, std::byte{61});
  const std::vector<io::TensorToWrite> rows{{"m.weight", io::DType::I8, {3, 8}, codes},
                                            {"m.weight_scale", io::DType::F32, {3}, scales}};
  seeds.put("bitsandbytes", "int8_rows", io::serialize_safetensors(rows));
}

// A model of one layer, without most of its weights, and one file with every type that is read.
void ggufs(const Seeds& seeds) {
  gguf::Image types = gguf::small();
  types.tensors.push_back({"q4", {32}, 2, std::string(18, '\x31'), 0});
  types.tensors.push_back({"iq4", {64}, 20, std::string(36, '\x3C'), 0});
  types.tensors.push_back({"f16", {2, 2}, 1, std::string(8, '\x3C'), 0});
  types.tensors.push_back({"bf16", {3}, 30, std::string(6, '\x3F'), 0});
  for (std::uint32_t type : {0u, 1u, 2u, 3u, 5u, 6u, 7u, 10u, 11u, 12u})
    types.keys.push_back(gguf::key("k" + std::to_string(type), type,
                                   std::string(type == 7  ? 1
                                               : type < 2 ? 1
                                               : type < 4 ? 2
                                               : type < 7 ? 4
                                                          : 8,
                                               '\1')));
  seeds.put("gguf", "types", types.bytes());
  seeds.put("gguf", "small", gguf::small().bytes());

  gguf::Image model;
  const auto text = [](const char* name, const char* value) { return gguf::key(name, 8, gguf::text(value)); };
  const auto number = [](const char* name, std::uint32_t value) { return gguf::key(name, 4, gguf::u32(value)); };
  model.keys = {text("general.architecture", "gpt2"),
                number("gpt2.block_count", 1),
                number("gpt2.embedding_length", 2),
                number("gpt2.attention.head_count", 1),
                number("gpt2.feed_forward_length", 8),
                number("gpt2.context_length", 4),
                gguf::key("gpt2.attention.layer_norm_epsilon", 6, gguf::raw(1e-5f))};
  model.tensors = {{"token_embd.weight", {2, 260}, 1, std::string(1040, '\x2F'), 0},
                   {"blk.0.attn_qkv.weight", {2, 6}, 0, std::string(48, '\x3F'), 0}};
  gguf::Image bare = model;
  bare.tensors[0] = {"token_embd.weight", {2, 3}, 0, std::string(24, '\x3F'), 0};
  seeds.put("gguf", "bare_model", bare.bytes());
  std::string tokens = gguf::u32(8) + gguf::u64(258), merges = gguf::u32(8) + gguf::u64(1) + gguf::text("a b");
  for (std::size_t b = 0; b < 256; ++b) tokens += gguf::text(lowbit::gpt2::detail::byte_symbol(b));
  model.keys.push_back(text("tokenizer.ggml.model", "gpt2"));
  model.keys.push_back(text("tokenizer.ggml.pre", "gpt-2"));
  model.keys.push_back(gguf::key("tokenizer.ggml.tokens", 9, tokens + gguf::text("ab") + gguf::text("<|endoftext|>")));
  model.keys.push_back(gguf::key("tokenizer.ggml.merges", 9, merges));
  seeds.put("gguf", "model", model.bytes());
}

void json(const Seeds& seeds) {
  seeds.put("config", "mini", io::read_text(assets / "gpt2-mini-ag-news" / "config.json"));
  seeds.put("config", "int8", io::read_text(assets / "gpt2-mini-ag-news-int8-qat" / "config.json"));
  seeds.put("config", "nf4",
            R"({"model_type":"gpt2","n_layer":2,"n_head":4,"n_embd":32,"n_positions":16,"vocab_size":50,"n_inner":null,)"
            R"("eos_token_id":[49,-1],"dtype":"float16","tie_word_embeddings":false,"scale_attn_weights":true,)"
            R"("quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true,"x":[NaN,-Infinity,1e9]}})");
  seeds.put("index", "two", R"({"metadata":{"total_size":6},"weight_map":{"a":"a.safetensors","b":"b.safetensors"}})");
  seeds.put("index", "one", R"({"weight_map":{"a":"a.safetensors"}})");
}

void tokenizers(const Seeds& seeds) {
  const lowbit::gpt2::TokenizerFiles& files = lowbit_fuzz::small_tokenizer();
  const std::string nul(1, '\0'), added = R"({"<|pad|>":500,"x y":501})";
  seeds.put("tokenizer_files", "files", "0" + files.vocab_json + nul + files.merges + nul + added);
  seeds.put("tokenizer_files", "few",
            R"(1"ab":256,"abc":257,"<|endoftext|>":258})" + nul + "#version: 0.2\na b\r\nab c\n" + nul + added);
  io::Json whole = {{"version", "1.0"},
                    {"added_tokens", {{{"id", 500}, {"content", "<|pad|>"}, {"special", true}}}},
                    {"normalizer", nullptr},
                    {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                    {"model", {{"type", "BPE"}, {"vocab", io::parse_json(files.vocab_json, "vocab")}, {"merges", {"a b"}}}}};
  whole["model"]["vocab"]["ab"] = 600;
  seeds.put("tokenizer_files", "whole", "2" + whole.dump());

  const auto cases = nlohmann::json::parse(io::read_text(data / "tokenizer_cases_mini.json"));
  int number = 0;
  for (const auto& c : cases)
    if (number++ % 4 == 0) seeds.put("tokenizer_text", "case" + std::to_string(number), c.at("text").get<std::string>());
  seeds.put("tokenizer_text", "added", "an <|pad|><|pad|> and <|endoftext|>");
}

void csv(const Seeds& seeds) {
  const std::string items = io::read_text(assets / "news_items.csv");
  seeds.put("csv", "items", std::string_view(items).substr(0, items.find('\n', 1500) + 1));
  seeds.put("csv", "quotes", "class,title,description\r\n1,\"a,\"\"b\"\"\",c\n\"4\",\"two\nlines\",\\\r\n2,,\n");
}

void checkpoints(const Seeds& seeds) {
  lowbit::qat::Transformer model = lowbit_fuzz::small_model();
  lowbit::qat::AdamW optimizer;
  const fs::path path = seeds.folder / "checkpoint.tmp";
  const auto put = [&](const char* name) {
    lowbit::qat::save_checkpoint(path, model, optimizer, {{"state", R"({"epoch":0,"step":1,"epochs":[],"history":[]})"}});
    seeds.put("checkpoint", name, io::read_text(path));
  };
  put("fresh");
  model.for_each_parameter([](lowbit::qat::Parameter& p) {
    p.first_moment.reset(p.size());
    p.second_moment.reset(p.size());
  });
  optimizer.steps = 3;
  put("trained");
  fs::remove(path);
}

template <class T>
void put_packed(const Seeds& seeds, const std::string& name, std::size_t rows, std::size_t cols,
                const typename T::Options& options = {}) {
  const std::vector<float> w = lowbit_test::Random(2).normals(rows * cols);
  seeds.put("packed_weights", name, lowbit::PackedTensor::pack(T::quantize(w.data(), rows, cols, options)).bytes());
}
void packed(const Seeds& seeds) {
  using namespace lowbit;
  put_packed<DenseTensor<float>>(seeds, "f32", 3, 5);
  put_packed<DenseTensor<Float16>>(seeds, "f16", 5, 7);
  put_packed<DenseTensor<BFloat16>>(seeds, "bf16", 5, 8);
  put_packed<Int8Tensor<>>(seeds, "int8", 5, 16);
  put_packed<Int8Tensor<Blockwise<32>>>(seeds, "int8_blocks", 3, 64);
  put_packed<LlmInt8Tensor>(seeds, "llm_int8", 4, 9);
  for (const bool twice : {false, true}) {
    FourBitOptions options;
    options.double_quantized = twice;
    const std::string end = twice ? "_twice" : "";
    put_packed<FourBitTensor<Nf4, 64, AnyAbsmax>>(seeds, "nf4" + end, 3, 64, options);
    put_packed<FourBitTensor<Fp4, 64, AnyAbsmax>>(seeds, "fp4" + end, 3, 32, options);
    put_packed<FourBitTensor<Nf4, 32, AnyAbsmax>>(seeds, "block_offsets" + end, 66, 48, options);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds FOLDER\nWrites the seeds of every fuzz target to FOLDER/<target>/.\n");
    return 2;
  }
  try {
    const Seeds seeds{argv[1]};
    for (const auto& write : {safetensors, ggufs, json, tokenizers, csv, checkpoints, packed}) write(seeds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz_seeds: %s\n", error.what());
    return 1;
  }
}
