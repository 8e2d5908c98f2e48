// SPDX-License-Identifier: MIT
#include "examples/common/models.hpp"

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "examples/common/text.hpp"
#include "lowbit/format/finite.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/io/hugging_face.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/lowbit.hpp"

namespace examples {

namespace {

using lowbit::Compute;
using lowbit::Format;

using NF4 = lowbit::NF4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;
using FP4 = lowbit::FP4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;

template <class Weights>
lowbit::gpt2::Transformer make(const lowbit::gpt2::ParameterSource& source, const ModelKind& kind, lowbit::LinearOptions linear,
                               const typename Weights::Options& quantize = {}) {
  return lowbit::gpt2::Model<Weights>(source,
                                      {.quantize = quantize, .linear = linear, .rest = kind.rest, .embeddings = kind.embeddings});
}

bool is_four_bit(Format format) { return format == Format::nf4 || format == Format::fp4; }

Compute compute_of(const ModelKind& kind, const Tuning& tuning) { return kind.compute.value_or(four_bit_compute(tuning)); }

const char* kind_of_value(const float& v) { return v != v ? "NaN" : "infinity"; }

// Throws if one of n values is not finite.
void require_finite(const float* values, std::size_t n, const std::string& tensor, std::string_view as) {
  const std::size_t i = lowbit::first_non_finite(values, n);
  lowbit::require(i == n, [&] {
    return fmt::format("{}: expected finite values, found {} at element {}{}", tensor, kind_of_value(values[i]), i, as);
  });
}

// Whether 4-bit weights are codes of a table of the file's (GGUF's Q4_0 and IQ4_NL), not of NF4's or FP4's.
bool own_table(const ModelKind& kind, const std::vector<HeldForm>& held) {
  return std::any_of(held.begin(), held.end(), [&](const HeldForm& h) { return h.format == kind.format && h.own_table; });
}

// Describes the scales of four-bit weights; returns what a name must say about them.
std::string describe_four_bit(const ModelKind& kind, const std::vector<HeldForm>& held, const Tuning& tuning, Identity& identity) {
  // What the folder holds stays as it is; the options are for what is quantized here.
  std::vector<std::pair<std::size_t, bool>> forms;
  for (const HeldForm& h : held) {
    const std::pair form = h.format == kind.format ? std::pair(h.block, h.double_quantized)
                                                   : std::pair(tuning.four_bit_block, tuning.double_quantized);
    if (std::find(forms.begin(), forms.end(), form) == forms.end()) forms.push_back(form);
  }
  const Tuning usual;
  std::string differs, words;
  for (const auto& [block, twice] : forms) {
    identity.settings["scales"].push_back({{"block", block}, {"double_quantized", twice}});
    words +=
        fmt::format("{} of {}, {} absmax", words.empty() ? " in blocks" : " and", block, twice ? "double-quantized" : "float32");
    if (block != usual.four_bit_block) differs += fmt::format(", block {}", block);
    if (twice != usual.double_quantized && !own_table(kind, held)) differs += ", absmax f32";
  }
  identity.weights += words;
  return differs;
}

// The same of LLM.int8()'s outliers.
std::string describe_outliers(const Tuning& tuning, Identity& identity) {
  const Tuning usual;
  const bool per_row = tuning.outliers == lowbit::Outliers::per_row;
  identity.settings["outlier_threshold"] = tuning.int8_threshold;
  identity.settings["outliers"] = per_row ? "per-row" : "per-call";
  if (tuning.int8_threshold == 0) {
    identity.weights += " without outliers";
    return ", no outliers";
  }
  identity.weights += fmt::format(", outliers from {} on, {}", tuning.int8_threshold, per_row ? "per row" : "per call");
  std::string differs;
  if (tuning.int8_threshold != usual.int8_threshold) differs += fmt::format(", threshold {}", tuning.int8_threshold);
  if (tuning.outliers != usual.outliers) differs += ", outliers per call";
  return differs;
}

}  // namespace

std::string ids_that_take(Format format) {
  std::string ids;
  for (const ModelKind& kind : model_kinds)
    if (kind.format == format && kind.id != "int8_scratch") ids += (ids.empty() ? "" : ",") + std::string(kind.id);
  return ids;
}

Compute four_bit_compute(const Tuning& tuning) { return tuning.compute.value_or(lowbit::automatic_compute(Format::nf4)); }

lowbit::Tensor WatchedParameters::linear(const std::string& module, std::size_t out, std::size_t in) const {
  lowbit::Tensor t = source_.linear(module, out, in);
  if (t.format() == Format::f16 || t.format() == Format::bf16) {  // a GGUF file's; of a folder they come as float32
    lowbit::AlignedBuffer<float> values(t.size());
    t.dequantize(values.data());
    t = lowbit::DenseTensor<float>::quantize(values.data(), out, in);
  }
  const std::string tensor = module + ".weight", named = where_ + tensor;
  if (t.format() == Format::f32) {
    require_finite(reinterpret_cast<const float*>(t.parts().codes.data()), t.size(), named, "");
  } else {
    lowbit::AlignedBuffer<float> values(t.size());
    t.dequantize(values.data());
    require_finite(values.data(), values.size(), named, ", decoded (it may be in the scales)");
  }
  const bool in_blocks = is_four_bit(t.format()) || (t.format() == Format::int8 && t.block_size() != in);
  const bool own_table = (t.format() == Format::nf4 && t.parts().table != lowbit::Nf4::table) ||
                         (t.format() == Format::fp4 && t.parts().table != lowbit::Fp4::table);
  const HeldForm form{t.format(), in_blocks ? t.block_size() : 0, t.double_quantized(), own_table, 1, tensor};
  const auto known = std::find_if(held_.begin(), held_.end(), [&](const HeldForm& h) {
    return h.format == form.format && h.block == form.block && h.double_quantized == form.double_quantized &&
           h.own_table == form.own_table;
  });
  if (known != held_.end())
    ++known->layers;
  else
    held_.push_back(form);
  return t;
}

void require_fit(const ModelKind& kind, const std::vector<HeldForm>& held, bool needs_training, const std::string& option) {
  for (const HeldForm& h : held) {
    const bool trained = kind.id == "int8_scratch" && needs_training;
    lowbit::require(!trained || h.format == Format::int8, [&] {
      return fmt::format(
          "{}: expected int8 weights that were trained as such (X.weight in I8 and X.weight_scale), found {}; int8_scratch cannot "
          "be made of it, {} int8 quantizes float weights after training",
          h.first, lowbit::format_name(h.format), option);
    });
    lowbit::require(h.format == Format::f32 || h.format == kind.format, [&] {
      return fmt::format("{}: expected float weights for {}, found {}, whose decoded values are not the float model's; {}", h.first,
                         kind.id, lowbit::format_name(h.format), option + " " + ids_that_take(h.format) + " takes it as it is");
    });
  }
}

void require_trained_int8(const std::filesystem::path& folder) {
  const auto quantization = lowbit::io::read_config(folder).lowbit_quantization;
  if (quantization && quantization->method == "int8")
    lowbit::raise<lowbit::FormatError>(fmt::format(
        "{}: lowbit_quantization: method: expected qat-int8, weights that were trained as int8, found {}; the id int8 takes "
        "the folder as it is",
        (folder / "config.json").string(), lowbit::io::in_quotes(quantization->method)));
}

Identity identify(const ModelKind& kind, const std::vector<HeldForm>& held, const Tuning& tuning, const std::string& scales) {
  const Compute compute = compute_of(kind, tuning);
  std::size_t layers = 0, as_held = 0;
  for (const HeldForm& h : held) {
    layers += h.layers;
    if (h.format == kind.format) as_held += h.layers;
  }
  Identity identity;
  identity.weights = kind.weights;
  identity.settings = {{"weights", lowbit::format_name(kind.format)},
                       {"compute", lowbit::compute_name(compute)},
                       {"everything_else", lowbit::format_name(kind.rest)},
                       {"layers_as_the_folder_holds_them", as_held}};
  if (kind.embeddings) identity.settings["embeddings"] = lowbit::format_name(*kind.embeddings);
  std::string differs;  // from the row's usual settings
  const bool by_own_table = is_four_bit(kind.format) && own_table(kind, held);
  if (by_own_table) identity.weights = "4 bits by the file's table,";
  if (is_four_bit(kind.format)) differs = describe_four_bit(kind, held, tuning, identity);
  if (is_four_bit(kind.format) && as_held != 0 && !scales.empty()) {
    identity.weights += ", " + scales;
    identity.settings["scales_of_the_folder"] = scales;
    differs += ", searched scales";
  }
  if (kind.format == Format::llm_int8) differs = describe_outliers(tuning, identity);
  if (!kind.compute && compute != four_bit_compute({})) differs += fmt::format(", {} compute", lowbit::compute_name(compute));
  if (kind.id == "int8_scratch" && as_held != layers) identity.weights = "int8 per row, quantized, not trained";  // synthetic
  if (as_held != 0 && kind.format != Format::f32 && kind.id != "int8_scratch") {
    // Who quantized it, and whether it was trained so, the folder does not say.
    if (kind.format == Format::int8) {
      identity.weights = "int8 per row";
      for (const HeldForm& h : held)
        if (h.format == Format::int8 && h.block != 0) {
          identity.weights = fmt::format("int8 in blocks of {}", h.block);
          differs = fmt::format(", block {}", h.block);
        }
    }
    identity.weights += fmt::format("; {} of {} layers as the folder holds them", as_held, layers);
  }
  if (kind.embeddings) identity.weights += fmt::format("; embeddings {}", lowbit::format_name(*kind.embeddings));
  // "(bnb)" stands for bitsandbytes' usual settings.
  std::string plain(kind.format == Format::llm_int8 ? kind.weights : kind.name.substr(0, kind.name.find(" (bnb)")));
  if (kind.format == Format::int8 && !differs.empty()) plain = plain.substr(0, plain.find(" per row"));
  if (by_own_table) plain.replace(0, plain.find(','), "4 bits");
  identity.name = (differs.empty() ? std::string(kind.name) : plain) + differs;
  identity.as_in_paper = kind.headline && differs.empty();
  return identity;
}

void require_finite(const lowbit::gpt2::Transformer& model) {
  const std::string_view as = model.rest_format == Format::f16 ? ", as float16" : "";
  const auto check = [&](const std::string& name, std::span<const float> values) {
    require_finite(values.data(), values.size(), name, as);
  };
  const auto check_table = [&](const char* name, const auto& t) {
    lowbit::AlignedBuffer<float> values(t.size());
    if (t.rows() != 0) t.dequantize(values.data());
    check(name, values.span());
  };
  const auto check_norm = [&](const std::string& name, const lowbit::gpt2::LayerNorm& n) {
    check(name + ".weight", n.gain.span());
    check(name + ".bias", n.shift.span());
  };
  check_table("wte.weight", model.token_embedding);
  check_table("wpe.weight", model.position_embedding);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const lowbit::gpt2::Block& b = model.blocks[i];
    const std::string h = "h." + std::to_string(i) + ".";
    check_norm(h + "ln_1", b.ln_1);
    check(h + "attn.c_attn.bias", b.attention_in.bias());
    check(h + "attn.c_proj.bias", b.attention_out.bias());
    check_norm(h + "ln_2", b.ln_2);
    check(h + "mlp.c_fc.bias", b.mlp_in.bias());
    check(h + "mlp.c_proj.bias", b.mlp_out.bias());
  }
  check_norm("ln_f", model.ln_f);
  check_table("score.weight", model.score);
  check_table("lm_head.weight", model.lm_head);
}

namespace {
// How the scales of 4-bit weights were chosen, where the folder's config.json says that they are not the largest magnitudes.
std::string recorded_scales(const ModelKind& kind, const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) return {};
  const auto quantization = lowbit::io::read_config(folder).lowbit_quantization;
  return quantization && quantization->method == lowbit::format_name(kind.format) ? printable(quantization->weight) : std::string();
}

lowbit::FourBitOptions four_bit_options(const Tuning& tuning) {
  lowbit::FourBitOptions options;
  options.block_size = tuning.four_bit_block;
  options.double_quantized = tuning.double_quantized;
  return options;
}
}  // namespace

lowbit::Tensor quantize(const ModelKind& kind, const float* w, std::size_t rows, std::size_t cols, const Tuning& tuning) {
  switch (kind.format) {
    case Format::f32: return lowbit::DenseTensor<float>::quantize(w, rows, cols);
    case Format::bf16: return lowbit::DenseTensor<lowbit::BFloat16>::quantize(w, rows, cols);
    case Format::int8: return lowbit::Int8Tensor<>::quantize(w, rows, cols);
    case Format::llm_int8: return lowbit::LlmInt8Tensor::quantize(w, rows, cols);
    case Format::nf4: return NF4::quantize(w, rows, cols, four_bit_options(tuning));
    case Format::fp4: return FP4::quantize(w, rows, cols, four_bit_options(tuning));
    case Format::f16: break;
  }
  lowbit::raise<lowbit::InvalidArgument>("no model has the id " + std::string(kind.id));
}

lowbit::gpt2::Transformer make_model(const ModelKind& kind, const lowbit::gpt2::ParameterSource& source, const Tuning& tuning) {
  const lowbit::FourBitOptions four_bit = four_bit_options(tuning);
  const Compute compute = compute_of(kind, tuning);
  switch (kind.format) {
    case Format::f32: return make<lowbit::DenseTensor<float>>(source, kind, {{.compute = compute}});
    case Format::bf16: return make<lowbit::DenseTensor<lowbit::BFloat16>>(source, kind, {{.compute = compute}});
    case Format::int8: return make<lowbit::Int8Tensor<>>(source, kind, {{.compute = compute}});
    case Format::llm_int8:
      return make<lowbit::LlmInt8Tensor>(
          source, kind, {{.compute = compute, .outlier_threshold = tuning.int8_threshold, .outliers = tuning.outliers}});
    case Format::nf4: return make<NF4>(source, kind, {{.compute = compute}}, four_bit);
    case Format::fp4: return make<FP4>(source, kind, {{.compute = compute}}, four_bit);
    case Format::f16: break;
  }
  lowbit::raise<lowbit::InvalidArgument>("no model has the id " + std::string(kind.id));
}

std::pair<lowbit::gpt2::Transformer, Identity> make_checked_model(const ModelKind& kind,
                                                                  const lowbit::gpt2::ParameterSource& source, const Tuning& tuning,
                                                                  const std::string& where, bool needs_training,
                                                                  const std::string& option) {
  try {
    const WatchedParameters watched(source);
    lowbit::gpt2::Transformer net = make_model(kind, watched, tuning);
    require_fit(kind, watched.held(), needs_training, option);
    require_finite(net);
    return {std::move(net), identify(kind, watched.held(), tuning, recorded_scales(kind, where))};
  } catch (const lowbit::InvalidArgument& error) {
    lowbit::raise<lowbit::InvalidArgument>(fmt::format("{}: {}: {}", where, kind.id, error.what()));
  }
}

}  // namespace examples
