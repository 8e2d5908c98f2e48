// SPDX-License-Identifier: MIT
#include "examples/quantize/model_folder.hpp"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include "lowbit/io/file.hpp"
#include "lowbit/io/system_file.hpp"

namespace quantize {

namespace fs = std::filesystem;
namespace io = lowbit::io;

ModelFolder ModelFolder::open(const fs::path& path) {
  std::error_code ignored;
  const fs::path folder = fs::is_directory(path, ignored) ? path : path.has_parent_path() ? path.parent_path() : fs::path(".");
  ModelFolder result{io::ModelFiles::open(path), std::nullopt, folder};
  const fs::path config = folder / "config.json";
  if (fs::exists(config, ignored)) {
    result.config = io::parse_json(io::read_text(config), config.string());
    if (!result.config->is_object())
      lowbit::raise<lowbit::FormatError>(config.string() + ": expected an object, found " + result.config->type_name());
  }
  return result;
}

bool ModelFolder::has_conv1d() const {
  if (!config) return false;
  const auto type = config->find("model_type");
  if (type == config->end() || !type->is_string()) return false;
  // Those of transformers' models that are built of Conv1D.
  constexpr std::array<std::string_view, 5> conv1d{"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"};
  return std::find(conv1d.begin(), conv1d.end(), type->get_ref<const std::string&>()) != conv1d.end();
}

std::vector<fs::path> ModelFolder::other_files() const {
  constexpr std::array<std::string_view, 9> weights{".safetensors", ".bin",  ".pt",   ".pth", ".h5",
                                                    ".msgpack",     ".gguf", ".onnx", ".ckpt"};
  std::vector<fs::path> found;
  std::error_code failure;
  for (auto entry = fs::directory_iterator(folder, failure); !failure && entry != fs::directory_iterator();
       entry.increment(failure)) {
    const fs::path name = entry->path().filename();
    const std::string text = name.string();
    if (!entry->is_regular_file(failure) || text == "config.json" || text.ends_with(".index.json") || text.starts_with(".") ||
        std::find(weights.begin(), weights.end(), name.extension().string()) != weights.end())
      continue;
    found.push_back(entry->path());
  }
  if (failure) io::detail::raise_io(folder, "list", failure.default_error_condition().value());
  std::sort(found.begin(), found.end());
  return found;
}

bool matches(std::string_view pattern, std::string_view text) {
  // Back to the last star where the rest does not fit.
  std::size_t p = 0, t = 0, star = pattern.npos, from = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
      ++p;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++from;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

namespace {

bool matches_any(std::span<const std::string_view> patterns, std::string_view module) {
  return std::any_of(patterns.begin(), patterns.end(), [&](std::string_view p) { return matches(p, module); });
}

}  // namespace

bool is_embedding(std::string_view module) {
  constexpr std::array<std::string_view, 7> patterns{"*embed*", "wte", "wpe", "shared", "relative_attention_bias",
                                                     "*norm*",  "ln_*"};
  const std::string_view last = module.substr(module.rfind('.') + 1);
  return last != "embed_out" && matches_any(patterns, last);
}

bool is_kept_by_default(std::string_view module) {
  constexpr std::array<std::string_view, 7> heads{
      "*lm_head", "*embed_out", "*score", "*classifier", "*qa_outputs", "*predictions.decoder", "*classification_head*"};
  return is_embedding(module) || matches_any(heads, module);
}

}  // namespace quantize
