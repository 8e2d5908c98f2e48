// SPDX-License-Identifier: MIT
// Which models the comparison knows, by id, how each is made, and what one that was made truly is: its name follows from the
// weights that it was made of and the settings, not from the wish.
#pragma once
#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/gpt2/transformer.hpp"
#include "lowbit/io/json.hpp"

namespace examples {

struct ModelKind {
  std::string_view id, name, weights;      // weights: how the linear layers hold theirs
  bool headline;                           // one of the paper's four
  lowbit::Format format;                   // of the linear layers' weights
  std::optional<lowbit::Compute> compute;  // empty: four_bit_compute()'s
  // Of everything else.  The paper's float and from-scratch rows keep it in float32, bitsandbytes' in float16.
  lowbit::Format rest;
  std::optional<lowbit::Format> embeddings = std::nullopt;  // where they are quantized too
};
inline constexpr std::array<ModelKind, 12> model_kinds = [] {
  using lowbit::Compute;
  using lowbit::Format;
  return std::array<ModelKind, 12>{{
      {"fp32", "FP32", "float32", true, Format::f32, Compute::f32, Format::f32},
      {"int8_scratch", "INT8 (scratch)", "int8 per row, trained with quantization in the loop", true, Format::int8, Compute::int8,
       Format::f32},
      {"int8_bnb", "INT8 (bnb)", "LLM.int8()", true, Format::llm_int8, Compute::int8, Format::f16},
      {"nf4_bnb", "NF4 (bnb)", "NF4", true, Format::nf4, std::nullopt, Format::f16},
      {"nf4_f32", "NF4, f32", "NF4", false, Format::nf4, Compute::f32, Format::f16},
      {"nf4_int8", "NF4, int8", "NF4", false, Format::nf4, Compute::int8, Format::f16},
      {"int8", "INT8 per row", "int8 per row, quantized after training", false, Format::int8, Compute::int8, Format::f32},
      {"fp4", "FP4", "FP4", false, Format::fp4, std::nullopt, Format::f16},
      {"bf16", "BF16", "bfloat16", false, Format::bf16, Compute::bf16, Format::f16},
      {"nf4_emb_int8", "NF4, INT8 emb.", "NF4", false, Format::nf4, std::nullopt, Format::f16, Format::int8},
      {"nf4_all", "NF4, all", "NF4", false, Format::nf4, std::nullopt, Format::f16, Format::nf4},
      {"int8_all", "INT8, all", "int8 per row, quantized after training", false, Format::int8, Compute::int8, Format::f32,
       Format::int8},
  }};
}();
inline constexpr std::string_view baseline_id = "fp32";

// The kind of an id; null if there is none.
constexpr const ModelKind* find_kind(std::string_view id) {
  for (const ModelKind& kind : model_kinds)
    if (kind.id == id) return &kind;
  return nullptr;
}

// What the command line may change about them.
struct Tuning {
  std::size_t four_bit_block = 64;
  bool double_quantized = true;
  float int8_threshold = 6.0f;
  lowbit::Outliers outliers = lowbit::Outliers::per_row;
  // Of nf4_bnb, nf4_emb_int8, nf4_all and fp4; default: bf16 where the processor is fast at it, else int8.
  std::optional<lowbit::Compute> compute = std::nullopt;
};

// The ids of the models that take weights in this format as a folder holds them: "nf4_bnb,nf4_f32".
std::string ids_that_take(lowbit::Format format);

// The compute type of nf4_bnb, nf4_emb_int8, nf4_all and fp4 on this machine.
lowbit::Compute four_bit_compute(const Tuning& tuning);

// A form in which a source holds linear layers, and how many of them.
struct HeldForm {
  lowbit::Format format = lowbit::Format::f32;
  std::size_t block = 0;  // of four-bit formats, as are the next two, and of int8 that has more than one scale a row
  bool double_quantized = false;
  bool own_table = false;  // codes are of another table than the format's: GGUF's Q4_0 and IQ4_NL
  std::size_t layers = 0;
  std::string first;  // the first one's tensor
};

// Hands on what another source holds, notes the forms of the linear layers and refuses weights that are not finite.
// The source must outlive it.  Not thread safe.
class WatchedParameters final : public lowbit::gpt2::ParameterSource {
 public:
  // where: opens every message.
  explicit WatchedParameters(const lowbit::gpt2::ParameterSource& source, std::string where = {})
      : source_(source), where_(std::move(where)) {}
  const lowbit::gpt2::Config& config() const override { return source_.config(); }
  bool contains(const std::string& name) const override { return source_.contains(name); }
  lowbit::AlignedBuffer<float> floats(const std::string& name, std::size_t rows, std::size_t cols) const override {
    return source_.floats(name, rows, cols);
  }
  // Throws InvalidArgument that names the tensor if a weight is NaN or infinite once it is decoded.
  lowbit::Tensor linear(const std::string& module, std::size_t out, std::size_t in) const override;
  const std::vector<HeldForm>& held() const { return held_; }

 private:
  const lowbit::gpt2::ParameterSource& source_;
  std::string where_;
  mutable std::vector<HeldForm> held_;
};

// Throws InvalidArgument, which names a tensor, if a model of this kind, made of weights in these forms, would not be what its id
// says: decoded NF4 is not the float model, and int8_scratch must have been trained as int8 (needs_training: not so for synthetic
// weights).  option: how the program calls the choice of ids.
void require_fit(const ModelKind& kind, const std::vector<HeldForm>& held, bool needs_training,
                 const std::string& option = "--models");

// Throws FormatError if config.json of a folder says that its int8 weights were quantized after training: int8_scratch is another
// model.
void require_trained_int8(const std::filesystem::path& folder);

// What a model is.
struct Identity {
  std::string name;           // of its row: the kind's, or where the settings differ from that one's, these
  std::string weights;        // how its linear layers hold theirs, and since when
  bool as_in_paper = false;   // made and run as the paper's row of the same id: only then its figures belong beside it
  lowbit::io::Json settings;  // every number and choice behind it
};
// scales: how the folder says that those of its 4-bit weights were chosen; empty: by the largest magnitude, as bitsandbytes does.
Identity identify(const ModelKind& kind, const std::vector<HeldForm>& held, const Tuning& tuning, const std::string& scales = {});

// Throws InvalidArgument that names the tensor if a parameter outside the linear layers' weights is NaN or infinite as the model
// holds it (a float16 that overflowed is).
void require_finite(const lowbit::gpt2::Transformer& model);

// Float weights w (rows, cols) of a linear layer in the form in which make_model() gives them to a model of this kind.
lowbit::Tensor quantize(const ModelKind& kind, const float* w, std::size_t rows, std::size_t cols, const Tuning& tuning);

// Makes a model; weights that the source holds in another format are quantized.  Throws as Model<...>::load does.
lowbit::gpt2::Transformer make_model(const ModelKind& kind, const lowbit::gpt2::ParameterSource& source, const Tuning& tuning);

// The same, checked as require_fit() and require_finite() do, and what it is.  where: the folder, or what else the weights are of;
// opens every message, with the id.
std::pair<lowbit::gpt2::Transformer, Identity> make_checked_model(const ModelKind& kind,
                                                                  const lowbit::gpt2::ParameterSource& source, const Tuning& tuning,
                                                                  const std::string& where, bool needs_training,
                                                                  const std::string& option = "--models");

}  // namespace examples
