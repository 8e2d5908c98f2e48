// SPDX-License-Identifier: MIT
// What four_models says about models and rows that are not what they should be, and how it names what it made of them.
#include <algorithm>
#include <filesystem>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include <sys/stat.h>

#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/io/bitsandbytes_writer.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/lowbit.hpp"
#include "support/four_models.hpp"

namespace four_models_faults_test {

using namespace four_models_test;

namespace {

// Makes the first element of a tensor NaN, or infinite.
void spoil(const fs::path& folder, const std::string& tensor, bool infinite = false) {
  const fs::path path = folder / "model.safetensors";
  std::string bytes = lowbit::io::read_text(path);
  const auto file = lowbit::io::SafeTensors::parse(lowbit_test::as_bytes(bytes), "image");
  const lowbit::io::TensorView& view = file.at(tensor);
  const auto at = static_cast<std::size_t>(view.data.data() - reinterpret_cast<const std::byte*>(bytes.data()));
  const bool bf16 = view.dtype == lowbit::io::DType::BF16;
  REQUIRE((bf16 || view.dtype == lowbit::io::DType::F32));
  const std::size_t high = at + (bf16 ? 0 : 2);  // the upper half of a float is a bfloat16
  bytes[high] = static_cast<char>(infinite ? 0x80 : 0xC0);
  bytes[high + 1] = '\x7F';
  put_file(path, bytes);
}

// The small model with its linear layers in another format.
fs::path quantized_mini(const Folder& folder, const std::string& name, const auto& add) {
  const fs::path path = folder / name;
  fs::copy(mini(), path);
  const lowbit::gpt2::FolderParameters source(mini());
  const auto file = lowbit::io::SafeTensors::open(mini() / "model.safetensors");
  lowbit::io::StateDict dict;
  std::list<lowbit::Tensor> alive;  // the dict points into them: they must not move
  for (const auto& view : file.tensors()) {
    const bool linear = view.name.find(".c_") != view.name.npos && view.name.ends_with(".weight");
    if (!linear) {
      dict.tensors.push_back({view.name, view.dtype, view.shape, view.data});
      continue;
    }
    const std::string module = view.name.substr(0, view.name.size() - std::string(".weight").size());
    const lowbit::Tensor t = source.linear(module.substr(std::string("transformer.").size()), view.shape[1], view.shape[0]);
    add(dict, alive, module, reinterpret_cast<const float*>(t.parts().codes.data()), t.rows(), t.cols());
  }
  fs::remove(path / "model.safetensors");
  lowbit::io::write_safetensors(path / "model.safetensors", dict.tensors);
  return path;
}
fs::path nf4_mini(const Folder& folder, std::size_t block, bool double_quantized) {
  using NF4 = lowbit::NF4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;
  return quantized_mini(
      folder, "nf4", [&](auto& dict, auto& alive, const std::string& module, const float* w, std::size_t rows, std::size_t cols) {
        lowbit::FourBitOptions options;
        options.block_size = block;
        options.double_quantized = double_quantized;
        alive.push_back(NF4::quantize(w, rows, cols, options));
        lowbit::io::add_four_bit(dict, module + ".weight", alive.back(), "float16");
      });
}

}  // namespace

TEST_CASE("four_models: a bad model is exit code 1 and one line that names it") {
  const Folder folder;
  const auto with_model = [&](const fs::path& model) {
    return run(folder, {"--model", model.string(), "--models", "fp32", "--limit", "2"});
  };
  CHECK(not_refused(with_model(folder / "nowhere"), 1, {"nowhere"}) == "");
  CHECK(not_refused(with_model(mini() / "model.safetensors"), 1, {"is a file", "folder that holds"}) == "");

  fs::path model = copy_of_mini(folder);
  fs::resize_file(model / "model.safetensors", 5000000);
  CHECK(not_refused(with_model(model), 1, {"model.safetensors"}) == "");
  put_file(model / "model.safetensors", "");
  CHECK(not_refused(with_model(model), 1, {"model.safetensors"}) == "");
  put_file(model / "model.safetensors", std::string(100, '\xFF'));
  CHECK(not_refused(with_model(model), 1, {"model.safetensors"}) == "");

  model = copy_of_mini(folder);
  replace_in(model / "model.safetensors", "ln_f.weight", "ln_g.weight");
  CHECK(not_refused(with_model(model), 1, {"model.safetensors", "ln_f.weight"}) == "");

  model = copy_of_mini(folder);
  replace_in(model / "config.json", "\"n_positions\": 256", "\"n_positions\": 128");
  CHECK(not_refused(with_model(model), 1, {"wpe.weight", "128", "256"}) == "");
  replace_in(model / "config.json", "\"n_positions\": 128", "\"n_positions\": ");
  CHECK(not_refused(with_model(model), 1, {"config.json"}) == "");

  model = copy_of_mini(folder);
  replace_in(model / "model.safetensors", "score.weight", "scorf.weight");
  CHECK(not_refused(with_model(model), 1, {"model", "score.weight"}) == "");

  model = copy_of_mini(folder);
  put_file(model / "vocab.json", "{\"a\": 0");
  CHECK(not_refused(with_model(model), 1, {"vocab.json", "cut short"}) == "");
  fs::remove(model / "merges.txt");
  CHECK(with_model(model).code == 1);

  const fs::path twin = folder / "twin";
  fs::copy(mini_twin(), twin);
  replace_in(twin / "model.safetensors", "c_fc.weight_scale", "c_fc.weight_scalf");
  CHECK(not_refused(run(folder, {"--model", mini().string(), "--qat-model", twin.string(), "--limit", "2"}), 1,
                    {"twin", "c_fc.weight_scale"}) == "");
}

TEST_CASE("four_models: bad rows are exit code 1 and one line with file and line") {
  const Folder folder;
  const auto with_rows = [&](const std::string& rows) {
    put_file(folder / "rows.csv", rows);
    return run(folder, {"--data", (folder / "rows.csv").string(), "--models", "fp32"});
  };
  CHECK(not_refused(run(folder, {"--data", (folder / "none.csv").string()}), 1, {"none.csv"}) == "");
  CHECK(not_refused(with_rows(""), 1, {"rows.csv", "found none"}) == "");
  CHECK(not_refused(with_rows("\n\n1,,\n"), 1, {"rows.csv", "found none in 1 rows"}) == "");
  CHECK(not_refused(with_rows(std::string("\xFF\xFE\x31\0,\0", 6)), 1, {"rows.csv", "UTF-16", "iconv"}) == "");
  CHECK(not_refused(run(folder, {"--data", folder.path().string()}), 1, {"directory"}) == "");
  CHECK(not_refused(with_rows("1,a,b\n2,\"c,d\n"), 1, {"rows.csv", "line 2", "never closed"}) == "");
  CHECK(not_refused(with_rows("1,a,b\n5,c,d\n"), 1, {"rows.csv", "line 2", "1 to 4", "5"}) == "");
  CHECK(not_refused(with_rows("1,a,b\nSports,c,d\n"), 1, {"rows.csv", "line 2", "Sports"}) == "");
  CHECK(not_refused(with_rows("1,a\n"), 1, {"rows.csv", "line 1", "3 fields"}) == "");
  CHECK(with_rows("1,a,b\r\n2,\xFF\xFE,d\r\n").code == 0);  // bytes that are no text are still bytes
}

TEST_CASE("four_models: parameters that are not finite are refused, whatever the model") {
  const Folder folder;
  const auto spoilt = [&](const char* tensor, const char* id, bool infinite = false) {
    const fs::path model = copy_of_mini(folder);
    spoil(model, tensor, infinite);
    return run(folder, {"--model", model.string(), "--models", id, "--limit", "2", "--out", (folder / "out").string()});
  };
  for (const char* id : {"fp32", "int8_bnb", "nf4_bnb", "nf4_f32", "int8", "fp4", "bf16"}) {
    CAPTURE(id);
    CHECK(not_refused(spoilt("transformer.ln_f.weight", id), 1, {"model: ", id, "ln_f.weight", "NaN"}) == "");
    CHECK(not_refused(spoilt("transformer.h.2.mlp.c_fc.weight", id), 1, {"model: ", id, "h.2.mlp.c_fc.weight", "NaN"}) == "");
  }
  for (const char* tensor : {"wte.weight", "wpe.weight", "h.0.ln_1.bias", "h.1.ln_2.weight", "h.3.attn.c_attn.bias",
                             "h.0.attn.c_proj.bias", "h.1.mlp.c_fc.bias", "h.3.mlp.c_proj.bias", "ln_f.bias"})
    CHECK(not_refused(spoilt((std::string("transformer.") + tensor).c_str(), "fp32", true), 1, {tensor, "infinity"}) == "");
  CHECK(not_refused(spoilt("score.weight", "fp32"), 1, {"score.weight", "NaN"}) == "");
  CHECK_FALSE(fs::exists(folder / "out"));

  const fs::path twin = folder / "twin";
  fs::copy(mini_twin(), twin);
  spoil(twin, "transformer.h.1.mlp.c_fc.weight_scale");
  CHECK(not_refused(run(folder, {"--model", mini().string(), "--qat-model", twin.string(), "--limit", "2"}), 1,
                    {"twin: int8_scratch", "h.1.mlp.c_fc.weight", "NaN", "scales"}) == "");
  const fs::path nf4 = nf4_mini(folder, 64, true);
  spoil(nf4, "transformer.h.2.attn.c_attn.weight.nested_absmax");
  CHECK(run(folder, {"--model", nf4.string(), "--models", "nf4_bnb", "--limit", "2"}).code == 1);
}

TEST_CASE("four_models: logits that are not finite are an error with model and row") {
  const Folder folder;
  const fs::path model = copy_of_mini(folder);
  // Every parameter is finite; the products of the norm's gain and the scores are not.
  for (const char* tensor : {"transformer.ln_f.weight", "score.weight"}) {
    std::string bytes = lowbit::io::read_text(model / "model.safetensors");
    const auto file = lowbit::io::SafeTensors::parse(lowbit_test::as_bytes(bytes), "image");
    const auto view = file.at(tensor);
    const auto at = static_cast<std::size_t>(view.data.data() - reinterpret_cast<const std::byte*>(bytes.data()));
    for (std::size_t i = 0; i < view.data.size(); i += view.dtype == lowbit::io::DType::BF16 ? 2 : 4)
      bytes[at + i + (view.dtype == lowbit::io::DType::BF16 ? 1 : 3)] = '\x7E';
    put_file(model / "model.safetensors", bytes);
  }
  const Outcome o =
      run(folder, {"--model", model.string(), "--models", "fp32", "--limit", "2", "--out", (folder / "out").string()});
  CHECK(not_refused(o, 1, {"model: fp32: row 0", "finite logits"}) == "");
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("four_models: a row's name says what its model is, and the paper's figures stand beside its settings only") {
  const Folder folder;
  const Outcome o = run(folder, {"--limit", "4", "--models", "fp32,int8_bnb,nf4_bnb,fp4", "--nf4-block", "4096",
                                 "--no-double-quant", "--int8-threshold", "2", "--outliers", "per-call", "--seed", "9",
                                 "--max-tokens", "20", "--threads", "2", "--out", (folder / "out").string()});
  REQUIRE(o.code == 0);
  CHECK(too_wide(o.out) == "");
  const Json results = json_of(folder / "out/results.json");
  const Json& options = results.at("options");
  CHECK(options.at("nf4_block") == 4096);
  CHECK(options.at("double_quant") == false);
  CHECK(options.at("int8_threshold") == 2);
  CHECK(options.at("outliers") == "per-call");
  CHECK(options.at("seed") == 9);
  CHECK(options.at("threads") == 2);
  CHECK(options.at("max_tokens") == 20);
  CHECK(options.at("limit") == 4);
  CHECK(options.at("models").size() == 4);
  CHECK(options.at("model") == mini().string());
  CHECK(results.at("dataset").at("texts_cut_at_max_tokens") == 4);
  const auto name = [&](const char* id) { return model_of(results, id).at("name").get<std::string>(); };
  CHECK(name("fp32") == "FP32");
  CHECK(name("int8_bnb") == "LLM.int8(), threshold 2, outliers per call");
  CHECK(name("nf4_bnb") == "NF4, block 4096, absmax f32");
  CHECK(name("fp4") == "FP4, block 4096, absmax f32");
  CHECK(model_of(results, "nf4_bnb").at("settings").at("scales").at(0) == Json({{"block", 4096}, {"double_quantized", false}}));
  CHECK(model_of(results, "fp32").contains("paper"));
  for (const char* id : {"int8_bnb", "nf4_bnb", "fp4"}) CHECK_FALSE(model_of(results, id).contains("paper"));
  const std::string report = lowbit::io::read_text(folder / "out/report.md");
  std::string one_line = o.out;
  std::replace(one_line.begin(), one_line.end(), '\n', ' ');
  for (const std::string& text : {one_line, report}) {
    for (const char* words : {"--nf4-block 4096", "--no-double-quant", "--int8-threshold 2", "--outliers per-call", "--seed 9",
                              "--max-tokens 20", "--limit 4", "4 of them", "NF4, block 4096, absmax f32"})
      CHECK(holds(text, words));
    for (const char* papers : {"127.86", "94.70", "168.36", "29.39", "NF4 (bnb)", "INT8 (bnb)"}) CHECK_FALSE(holds(text, papers));
    CHECK(holds(text, "486.71"));
  }
  const std::string accuracy = lowbit::io::read_text(folder / "out/figures/accuracy.svg");
  CHECK(holds(accuracy, "NF4, block 4096, absmax f32"));
  CHECK_FALSE(holds(accuracy, "94.70"));
  // The usual settings, said: the usual row.
  REQUIRE(run(folder, {"--limit", "2", "--models", "nf4_bnb,int8_bnb", "--nf4-block", "64", "--int8-threshold", "6", "--out",
                       (folder / "out").string()})
              .code == 0);
  CHECK(model_of(json_of(folder / "out/results.json"), "nf4_bnb").at("name") == "NF4 (bnb)");
  CHECK(model_of(json_of(folder / "out/results.json"), "int8_bnb").contains("paper"));
  REQUIRE(run(folder, {"--limit", "2", "--models", "nf4_bnb", "--compute", "f32", "--out", (folder / "out").string()}).code == 0);
  CHECK(model_of(json_of(folder / "out/results.json"), "nf4_bnb").at("name") == "NF4, f32 compute");
}

TEST_CASE("four_models: NF4 whose scales were searched is not bitsandbytes', nor the paper's") {
  const Folder folder;
  const std::string nf4 = nf4_mini(folder, 64, true).string(), out = (folder / "out").string();
  const auto row = [&](const std::vector<std::string>& arguments) {
    std::vector<std::string> a{"--limit", "2", "--models", "nf4_bnb", "--out", out};
    a.insert(a.end(), arguments.begin(), arguments.end());
    REQUIRE(run(folder, a).code == 0);
    return model_of(json_of(folder / "out/results.json"), "nf4_bnb");
  };
  CHECK(row({"--model", nf4}).at("name") == "NF4 (bnb)");
  replace_in(folder / "nf4/config.json", "{",
             R"({"lowbit_quantization": {"method": "nf4", "weight": "scales searched", "activation": "as it is"},)");
  for (const std::vector<std::string>& from :
       {std::vector<std::string>{"--model", nf4}, {"--model", mini().string(), "--checkpoint", nf4}}) {
    const Json found = row(from);
    CHECK(found.at("name") == "NF4, searched scales");
    CHECK(found.at("settings").at("scales_of_the_folder") == "scales searched");
    CHECK(holds(found.at("weights").get<std::string>(), "double-quantized absmax, scales searched; 16 of 16 layers"));
    CHECK_FALSE(found.contains("paper"));
  }
  CHECK(row({"--model", mini().string()}).at("name") == "NF4 (bnb)");
}

TEST_CASE("four_models: a folder of other weights than its option stands for is refused, or named") {
  const Folder folder;
  CHECK(not_refused(run(folder, {"--model", mini().string(), "--qat-model", mini().string(), "--limit", "2"}), 1,
                    {"int8_scratch", "h.0.attn.c_attn.weight", "trained", "found f32"}) == "");
  // int8 weights that were not trained as such, as config.json says.
  const fs::path twin = folder / "twin";
  fs::copy(mini_twin(), twin);
  replace_in(twin / "config.json", "\"qat-int8\"", "\"int8\"");
  CHECK(not_refused(run(folder, {"--model", mini().string(), "--qat-model", twin.string(), "--limit", "2"}), 1,
                    {"twin/config.json", "trained", "qat-int8", "found \"int8\""}) == "");
  const fs::path nf4 = nf4_mini(folder, 128, false);
  CHECK(not_refused(run(folder, {"--model", nf4.string(), "--limit", "2"}), 1,
                    {"nf4: fp32", "found nf4", "--models nf4_bnb,nf4_f32,nf4_int8"}) == "");
  CHECK(not_refused(run(folder, {"--model", nf4.string(), "--limit", "2", "--models", "int8"}), 1, {"nf4: int8", "found nf4"}) ==
        "");
  // What the folder holds is what is named, not what the options would have made.
  REQUIRE(run(folder, {"--model", nf4.string(), "--limit", "2", "--models", "nf4_bnb", "--nf4-block", "64", "--out",
                       (folder / "out").string()})
              .code == 0);
  const Json results = json_of(folder / "out/results.json");
  const Json m = model_of(results, "nf4_bnb");
  CHECK(m.at("name") == "NF4, block 128, absmax f32");
  CHECK(holds(m.at("weights"), "16 of 16 layers as the folder holds them"));
  CHECK_FALSE(m.contains("paper"));

  const fs::path llm = quantized_mini(
      folder, "llm", [](auto& dict, auto& alive, const std::string& module, const float* w, std::size_t rows, std::size_t cols) {
        alive.push_back(lowbit::LlmInt8Tensor::quantize(w, rows, cols));
        lowbit::io::add_llm_int8(dict, module, alive.back());
      });
  CHECK(not_refused(run(folder, {"--model", llm.string(), "--limit", "2"}), 1, {"llm: fp32", "llm_int8", "--models int8_bnb"}) ==
        "");
  CHECK(run(folder, {"--model", llm.string(), "--limit", "2", "--models", "int8_bnb"}).code == 0);
}

TEST_CASE("four_models: rows without a text and blank lines are skipped and counted; a pipe is read") {
  const Folder folder;
  const std::string rows = "\n1,a,b\n2,,\n3, ,\n\n4,c,\n\n";
  const auto check = [&](const Outcome& o) {
    INFO(o.err);
    REQUIRE(o.code == 0);
    const Json results = json_of(folder / "out/results.json");
    const Json& dataset = results.at("dataset");
    CHECK(dataset.at("rows") == 2);
    CHECK(dataset.at("rows_without_a_text") == 2);
    CHECK(dataset.at("blank_lines") == 3);
    CHECK(holds(o.out, "2 rows without a text skipped"));
    CHECK(holds(o.out, "3 blank lines skipped"));
    const auto lines = csv_of(folder / "out/predictions.csv");
    REQUIRE(lines.size() == 3);
    CHECK(lines[1][0] == "0");
    CHECK(lines[2][0] == "3");  // its place in the file
  };
  put_file(folder / "rows.csv", rows);
  check(run(folder, {"--data", (folder / "rows.csv").string(), "--models", "fp32", "--out", (folder / "out").string()}));
  const std::string pipe = (folder / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::thread writer([&] { put_file(pipe, rows); });
  const Outcome o = run(folder, {"--data", pipe, "--models", "fp32", "--out", (folder / "out").string()});
  writer.join();
  check(o);
}

TEST_CASE("four_models: names from files can break neither the report nor the figures") {
  const Folder folder;
  const fs::path model = copy_of_mini(folder);
  const std::string longest = "Wissenschaft und Technik und Weltraumforschungsgesellschaftsnachrichten";
  replace_in(model / "config.json", "\"Sci/Tech\"", "\"" + longest + "\"");
  replace_in(model / "config.json", "\"World\"", "\"<script>alert(1)</script>|*a*\\u001b[31m\"");
  const Outcome o =
      run(folder, {"--model", model.string(), "--models", "fp32,nf4_bnb", "--limit", "4", "--out", (folder / "out").string()});
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK_FALSE(holds(o.out, "\x1b"));
  CHECK(too_wide(o.out) == "");
  const std::string report = lowbit::io::read_text(folder / "out/report.md");
  CHECK_FALSE(holds(report, "<script>"));
  CHECK(holds(report, "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\*a\\*"));
  CHECK(holds(report, longest));
  const std::string svg = lowbit::io::read_text(folder / "out/figures/confusion.svg");
  CHECK_FALSE(holds(svg, "<script>"));
  CHECK_FALSE(holds(svg, "\x1b"));
  CHECK(holds(svg, "<title>" + longest + "</title>"));
  CHECK_FALSE(holds(svg, ">" + longest + "</text>"));
  const std::string html = lowbit::io::read_text(folder / "out/report.html");
  CHECK_FALSE(holds(html, "<script>"));
  CHECK_FALSE(holds(html, "\x1b"));
  CHECK(holds(html, "&lt;script&gt;alert(1)&lt;/script&gt;|*a*"));
}

TEST_CASE("four_models: more tokens than positions are wrong usage, more threads than processors are warned of") {
  const Folder folder;
  CHECK(not_refused(run(folder, {"--max-tokens", "257"}), 2, {"--max-tokens", "256", "257"}) == "");
  CHECK(run(folder, {"--max-tokens", "256", "--limit", "1", "--models", "fp32"}).code == 0);
  const std::string threads = std::to_string(lowbit::available_processors() + 1);
  const Outcome o = run(folder, {"--threads", threads, "--limit", "1", "--models", "fp32"});
  CHECK(not_refused(o, 0, {"warning", "--threads " + threads, "processors"}) == "");
  CHECK(holds(o.out, "No batched throughput"));
  Process version(FOUR_MODELS, folder, {"--version"});
  const Outcome v = wait_for(version);
  CHECK(v.code == 0);
  CHECK(holds(v.out, LOWBIT_VERSION));
}

}  // namespace four_models_faults_test
