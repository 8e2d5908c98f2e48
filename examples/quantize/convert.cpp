// SPDX-License-Identifier: MIT
// The commands quantize and dequantize: weight after weight from mapped files to a new folder.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "examples/common/interrupt.hpp"
#include "examples/common/left_behind.hpp"
#include "examples/common/progress.hpp"
#include "examples/quantize/calibration.hpp"
#include "examples/quantize/commands.hpp"
#include "examples/quantize/model_folder.hpp"
#include "examples/quantize/quantizers.hpp"
#include "examples/quantize/shard_writer.hpp"
#include "lowbit/format/finite.hpp"
#include "lowbit/io/bitsandbytes.hpp"
#include "lowbit/io/bitsandbytes_writer.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/folder_writer.hpp"
#include "lowbit/io/system_file.hpp"
#include "lowbit/io/residency.hpp"
#include "lowbit/io/stored_weights.hpp"
#include "lowbit/lowbit.hpp"
#include "lowbit/io/safetensors_writer.hpp"

namespace quantize {

namespace {

namespace fs = std::filesystem;
namespace io = lowbit::io;
using io::DType;
using io::TensorView;
using lowbit::Format;
using lowbit::FormatError;
using lowbit::InvalidArgument;
using lowbit::raise;

// As PyTorch calls it; F64 is read as float.
const char* torch_name(DType d) { return d == DType::F16 ? "float16" : d == DType::BF16 ? "bfloat16" : "float32"; }

[[noreturn]] void refuse_overflow(const std::string& where, float value, DType type) {
  raise<InvalidArgument>(
      fmt::format("{}: {} overflows {}; {}f32 holds it", where, value, torch_name(type), type == DType::F16 ? "bf16 or " : ""));
}

// ---- reading -------------------------------------------------------------------------------------------------------------------

void round_through(DType type, std::span<float> values) {
  if (type == DType::F16)
    for (float& v : values) v = lowbit::to_float(lowbit::to_float16(v));
  if (type == DType::BF16)
    for (float& v : values) v = lowbit::to_float(lowbit::to_bfloat16(v));
}

// A float matrix (rows, cols) as the quantizers want it: `view` is that, or its transposed (cols, rows).
struct Matrix {
  const TensorView* view = nullptr;
  bool transposed = false;
  std::size_t rows = 0, cols = 0;
  std::optional<DType> through;  // rounded to it first

  static Matrix of(const TensorView& view, bool transposed, std::optional<DType> through) {
    const std::size_t a = view.shape[0], b = view.shape[1];
    return {&view, transposed, transposed ? b : a, transposed ? a : b, through};
  }
  // Rows [begin, end) to out (end - begin, cols).  Throws InvalidArgument that names the element if one is NaN or infinite.
  void read(std::size_t begin, std::size_t end, std::span<float> out) const {
    if (transposed) {
      switch (view->dtype) {
        case DType::F64: gather<double>(begin, end, out.data()); break;
        case DType::F32: gather<float>(begin, end, out.data()); break;
        case DType::F16: gather<lowbit::Float16>(begin, end, out.data()); break;
        default: gather<lowbit::BFloat16>(begin, end, out.data()); break;
      }
    } else {
      const std::size_t size = io::dtype_bits(view->dtype) / 8;
      TensorView part;
      part.dtype = view->dtype;
      part.shape = {end - begin, cols};
      part.data = view->data.subspan(begin * cols * size, (end - begin) * cols * size);
      io::read_floats(part, out);
    }
    if (through && *through != view->dtype) round_through(*through, out);
    const std::size_t i = lowbit::first_non_finite(out.data(), out.size());
    if (i == out.size()) return;
    const std::size_t row = begin + i / cols, col = i % cols;
    raise<InvalidArgument>(fmt::format("{}: expected finite weights, found NaN or infinity at element [{}, {}]{}", view->where(),
                                       transposed ? col : row, transposed ? row : col,
                                       through && *through != view->dtype ? fmt::format(", as {}", torch_name(*through)) : ""));
  }

 private:
  template <class T>
  void gather(std::size_t begin, std::size_t end, float* out) const {
    constexpr std::size_t tile = 32;
    for (std::size_t c0 = 0; c0 < cols; c0 += tile)
      for (std::size_t r0 = begin; r0 < end; r0 += tile)
        for (std::size_t c = c0; c < std::min(cols, c0 + tile); ++c)
          for (std::size_t r = r0; r < std::min(end, r0 + tile); ++r) {
            T element;
            std::memcpy(&element, view->data.data() + (c * rows + r) * sizeof(T), sizeof(T));
            if constexpr (std::is_same_v<T, double>)
              out[(r - begin) * cols + c] = static_cast<float>(element);
            else
              out[(r - begin) * cols + c] = lowbit::to_float(element);
          }
  }
};

// Calls part(begin, end, values) for ranges of rows on the executor's threads: whole numbers of blocks, about 128k elements each.
void for_rows(const Matrix& m, std::size_t block, lowbit::Executor& executor,
              const std::function<void(std::size_t, std::size_t, const float*)>& part) {
  constexpr std::size_t elements = std::size_t{1} << 17;
  const std::size_t unit = block / std::gcd(m.cols, block);  // rows that end with a block
  const std::size_t least = m.transposed ? 64 : 1;           // a cache line of 16-bit values
  const std::size_t rows = lowbit::ceil_div(std::max(least, elements / m.cols), unit) * unit;
  const std::size_t parts = lowbit::ceil_div(m.rows, rows);
  executor.run(parts, [&](std::size_t i) {
    if (examples::interrupted()) throw Interrupted{};
    const std::size_t begin = i * rows, end = std::min(m.rows, begin + rows);
    std::vector<float> values((end - begin) * m.cols);
    m.read(begin, end, values);
    part(begin, end, values.data());
  });
}

// ---- quantizing ----------------------------------------------------------------------------------------------------------------

// The offset that another checkpoint has for this weight.
std::optional<float> offset_in(const std::optional<ModelFolder>& other, const std::string& weight) {
  if (!other || !io::is_four_bit(other->files, weight)) return std::nullopt;
  const io::FourBitState state = io::read_four_bit(other->files, weight);
  return state.tensor.double_quantized() ? std::optional(state.tensor.parts().offset) : std::nullopt;
}

// moments: of the columns; may be empty.
lowbit::Tensor four_bit_tensor(const Matrix& m, const Options& o, std::optional<float> offset, std::span<const float> moments,
                               lowbit::Executor& executor) {
  lowbit::TensorParts p;
  p.format = o.format;
  p.rows = m.rows;
  p.cols = m.cols;
  p.block = o.block;
  p.table = o.format == Format::nf4 ? lowbit::Nf4::table : lowbit::Fp4::table;
  const std::size_t n = m.rows * m.cols, blocks = lowbit::block_count(n, o.block);
  const bool search = o.scales == Scales::search;
  p.codes.reset(lowbit::packed_size(n));
  p.scales.reset(blocks);
  for_rows(m, o.block, executor, [&](std::size_t begin, std::size_t end, const float* values) {
    const std::size_t first = begin * m.cols, count = (end - begin) * m.cols;
    if (search)
      search_scales(o.format, values, count, o.block, p.scales.data() + first / o.block, moments);
    else
      quantize_four_bit(o.format, values, count, o.block, p.codes.data() + first / 2, p.scales.data() + first / o.block);
  });
  if (o.double_quantized) {
    p.offset = offset ? *offset : lowbit::mean_offset(p.scales.data(), blocks);
    p.scale_codes.reset(blocks);
    p.nested.reset(lowbit::ceil_div(blocks, lowbit::nested_block_size));
    lowbit::double_quantize(p.scales.data(), blocks, p.offset, p.scale_codes.data(), p.nested.data());
    if (search)
      lowbit::double_dequantize(p.nested_map.data(), p.scale_codes.data(), p.nested.data(), blocks, p.offset, p.scales.data());
  }
  if (search)  // the codes for the scales as they will be decoded
    for_rows(m, o.block, executor, [&](std::size_t begin, std::size_t end, const float* values) {
      const std::size_t first = begin * m.cols;
      quantize_four_bit_with(o.format, p.scales.data() + first / o.block, values, (end - begin) * m.cols, o.block,
                             p.codes.data() + first / 2);
    });
  if (o.double_quantized) p.scales.reset(0);
  return lowbit::Tensor(std::move(p));
}

// LLM.int8(), or int8 with a scale a row.
lowbit::Tensor quantize_rows(const Matrix& m, Format format, lowbit::Executor& executor) {
  lowbit::TensorParts p;
  p.format = format;
  p.rows = m.rows;
  p.cols = p.block = m.cols;
  p.codes.reset(m.rows * m.cols);
  p.scales.reset(m.rows);
  for_rows(m, m.cols, executor, [&](std::size_t begin, std::size_t end, const float* values) {
    auto* codes = reinterpret_cast<std::int8_t*>(p.codes.data()) + begin * m.cols;
    for (std::size_t r = begin; r < end; ++r, values += m.cols, codes += m.cols) {
      if (format == Format::int8) {
        lowbit::quantize_int8_group(values, m.cols, codes, p.scales[r]);
        continue;
      }
      lowbit::llm_int8_quantize_row(values, m.cols, true, 0.0f, codes, p.scales[r], lowbit::LlmInt8Rule::cuda);
      if (!lowbit::is_finite_bits(p.scales[r]))
        raise<InvalidArgument>(
            fmt::format("{}: LLM.int8() rounds weights to float16, where row {} of [out, in] overflows", m.view->where(), r));
    }
  });
  return lowbit::Tensor(std::move(p));
}

// ---- the new folder ------------------------------------------------------------------------------------------------------------

struct Summary {
  std::size_t weights = 0, elements = 0, parameters = 0;  // elements: of the weights that were quantized (or decoded)
  std::size_t weight_bytes = 0, bytes_in = 0, bytes_out = 0;
  double seconds = 0;
  io::Json calibration;  // what it was made on; null: none
};

// Progress in megabytes; a step that is smaller counts with the next one.
class ByteProgress {
 public:
  ByteProgress(const std::string& what, std::size_t bytes) : shown_(what + ", MB", bytes / unit) {}
  void step(std::size_t bytes, const std::string& name) {
    done_ += bytes;
    const std::size_t whole = done_ / unit;
    if (whole == said_) return;
    shown_.step(whole - said_, ", " + name);
    said_ = whole;
  }

 private:
  static constexpr std::size_t unit = 1'000'000;
  examples::Progress shown_;
  std::size_t done_ = 0, said_ = 0;
};

std::size_t bytes_of(const io::TensorSource& files, const io::StoredWeight& w) {
  std::size_t bytes = 0;
  for (const std::string& part : w.parts) bytes += files.at(part).data.size();
  return bytes;
}
void release(const io::TensorSource& files, const io::StoredWeight& w) {
  for (const std::string& part : w.parts) io::release_pages(files.at(part).data);
}

// Says that a tensor which is not quantized holds NaN or infinity: some do, in masks; in a parameter no result would be a number.
void warn_of_non_finite(const TensorView& view, std::span<const float> part, std::size_t begin, bool& warned) {
  const std::size_t i = warned ? part.size() : lowbit::first_non_finite(part.data(), part.size());
  if (i == part.size()) return;
  complain("warning: {}: holds {} at element {}, and so does the new file", view.where(), part[i], begin + i);
  warned = true;
}

// A tensor as it is, or as another float type.
void add_plain(ShardWriter& writer, const TensorView& view, std::optional<DType> type) {
  const bool kept = !type || *type == view.dtype || !is_float(view.dtype);
  // In parts: an embedding may be the largest tensor.
  const std::size_t n = is_float(view.dtype) ? view.elements() : 0, from = io::dtype_bits(view.dtype) / 8,
                    to = kept ? 0 : io::dtype_bits(*type) / 8;
  lowbit::AlignedBuffer<std::byte> out(n * to);
  bool warned = false;
  std::vector<float> values;
  for (std::size_t begin = 0; begin < n; begin += values.size()) {
    values.resize(std::min(n - begin, std::size_t{1} << 16));
    TensorView part;
    part.dtype = view.dtype;
    part.shape = {values.size()};
    part.data = view.data.subspan(begin * from, values.size() * from);
    io::read_floats(part, values);
    warn_of_non_finite(view, values, begin, warned);
    if (kept) continue;
    std::byte* at = out.data() + begin * to;
    const auto store = [&]<class T>(T) {
      for (const float v : values) {
        const T element = lowbit::DenseElement<T>::encode(v);
        if (lowbit::is_finite_bits(v) && !lowbit::is_finite_bits(lowbit::to_float(element)))
          refuse_overflow(view.where(), v, *type);
        std::memcpy(at, &element, sizeof(T));
        at += sizeof(T);
      }
    };
    if (*type == DType::F16)
      store(lowbit::Float16{});
    else if (*type == DType::BF16)
      store(lowbit::BFloat16{});
    else
      store(float{});
  }
  if (kept)
    writer.add({view.name, view.dtype, view.shape, view.data}, true);
  else
    writer.add({view.name, *type, view.shape, {out.data(), out.size()}}, false);
}

// Writes OUT: fill(writer) adds the tensors, `config` goes beside them, and what IN holds besides.
void write_folder(const Options& o, const ModelFolder& in, const std::optional<io::Json>& config, Summary& summary,
                  const std::function<void(ShardWriter&)>& fill) {
  std::error_code ignored;
  if (!o.overwrite && fs::exists(o.out, ignored) && !(fs::is_directory(o.out, ignored) && fs::is_empty(o.out, ignored)))
    raise<lowbit::IoError>(o.out.string() +
                           ": expected a folder that is empty or not there, found something; --overwrite replaces it");
  if (fs::equivalent(in.folder, o.out, ignored))
    raise<InvalidArgument>(o.out.string() + ": expected another folder than that of the input");
  examples::note_left_beside("lowbit-quantize", o.out);
  const auto began = std::chrono::steady_clock::now();
  const auto is_model_file = [](const fs::path& name) {
    return name.extension() == ".safetensors" || name.string().ends_with(".safetensors.index.json");
  };
  io::write_folder_atomically(
      o.out,
      [&](const fs::path& fresh) {
        ShardWriter writer(fresh, o.shard_bytes);
        writer.count_parameters(summary.parameters);
        fill(writer);
        summary.bytes_out = writer.finish();
        if (config) io::write_atomically(fresh / "config.json", std::string_view(config->dump(2, ' ', true) + "\n"));
        for (const fs::path& file : in.other_files()) {
          std::error_code failure;
          fs::copy_file(file, fresh / file.filename(), failure);
          if (failure) io::detail::raise_io(file, "copy", failure.default_error_condition().value());
        }
        if (examples::interrupted()) throw Interrupted{};
      },
      [&](const fs::path& name) { return !is_model_file(name); });
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

void say_summary(const Options& o, const Summary& s, const char* verb) {
  const double bits = s.elements == 0 ? 0 : 8 * static_cast<double>(s.weight_bytes) / static_cast<double>(s.elements);
  if (o.json) {
    const io::Json json = {{"weights", s.weights},       {"elements", s.elements},      {"bits_per_weight", bits},
                           {"parameters", s.parameters}, {"bytes_in", s.bytes_in},      {"bytes_out", s.bytes_out},
                           {"seconds", s.seconds},       {"calibration", s.calibration}};
    say(json.dump(2, ' ', false, io::Json::error_handler_t::replace) + "\n");  // a path may be no UTF-8
    return;
  }
  say(fmt::format("{}: {} of {} parameters {} in {} weights, {:.3f} bits each; {} -> {} in {:.2f} s\n", o.out.string(), s.elements,
                  s.parameters, verb, s.weights, bits, size_text(static_cast<double>(s.bytes_in)),
                  size_text(static_cast<double>(s.bytes_out)), s.seconds));
  if (!s.calibration.is_null())
    say(fmt::format("calibrated on {} rows of {} tokens, {} of them cut after {}\n", s.calibration.at("rows").get<std::size_t>(),
                    s.calibration.at("tokens").get<std::size_t>(), s.calibration.at("cut_rows").get<std::size_t>(),
                    s.calibration.at("positions").get<std::size_t>()));
}

// config.json's quantization_config as transformers writes it.
io::Json bitsandbytes_config(const Options& o, io::Json skipped) {
  const bool four = o.format != Format::llm_int8;
  const auto storage = [&] { return o.storage == DType::U8 ? "uint8" : torch_name(o.storage); };
  return {{"_load_in_4bit", four},
          {"_load_in_8bit", !four},
          {"bnb_4bit_compute_dtype", o.compute},
          {"bnb_4bit_quant_storage", storage()},
          {"bnb_4bit_quant_type", four ? lowbit::format_name(o.format) : "fp4"},
          {"bnb_4bit_use_double_quant", four && o.double_quantized},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_skip_modules", std::move(skipped)},
          {"llm_int8_threshold", 6.0},
          {"load_in_4bit", four},
          {"load_in_8bit", !four},
          {"quant_method", "bitsandbytes"}};
}

void set_dtype(io::Json& config, DType type) {
  config[config.contains("torch_dtype") ? "torch_dtype" : "dtype"] = torch_name(type);
}

// ---- quantize ------------------------------------------------------------------------------------------------------------------

bool is_rounding(Format f) { return f == Format::f16 || f == Format::bf16; }
bool is_four_bit(Format f) { return f == Format::nf4 || f == Format::fp4; }

// The type of everything that is not quantized; nothing: as it is.
std::optional<DType> rest_of(const Options& o) {
  return o.format == Format::f16 ? DType::F16 : o.format == Format::bf16 ? DType::BF16 : o.rest;
}

bool matches_one(const std::vector<std::string>& patterns, const std::string& module) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) { return matches(p, module); });
}

// Which of the weights are quantized; the modules that could be and are not, but for embeddings, go to left_alone.
std::vector<bool> choose_weights(const ModelFolder& in, const std::vector<io::StoredWeight>& weights, const Options& o,
                                 std::vector<std::string>& left_alone) {
  std::vector<bool> chosen(weights.size(), false);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const TensorView& view = in.files.at(weights[i].name);
    if (weights[i].kind != io::StoredWeight::Kind::plain)
      raise<FormatError>(view.where() + ": is quantized already; lowbit-quantize dequantize makes floats of it");
    const std::string module = io::module_name(view.name);
    if (is_rounding(o.format) || module == view.name || view.shape.size() != 2 || !is_float(view.dtype) || view.elements() == 0)
      continue;
    chosen[i] = o.only.empty() ? !is_kept_by_default(module) && !matches_one(o.skip, module) : matches_one(o.only, module);
    if (!chosen[i] && !is_embedding(module)) left_alone.push_back(module);
  }
  if (!is_rounding(o.format) && std::find(chosen.begin(), chosen.end(), true) == chosen.end())
    raise<InvalidArgument>(in.files.location() + ": found no float matrix X.weight to quantize" +
                           (o.only.empty() ? "" : " that --only names"));
  return chosen;
}

// config.json of the new folder, if the old one has it.
std::optional<io::Json> quantized_config(const ModelFolder& in, const Options& o, std::vector<std::string> left_alone) {
  std::optional<io::Json> config = in.config;
  if (!config) return config;
  if (config->contains("quantization_config"))
    raise<FormatError>((in.folder / "config.json").string() + ": has a quantization_config, expected a folder of floats");
  if (const auto rest = rest_of(o)) set_dtype(*config, *rest);
  io::Json skipped = nullptr;
  if (!o.only.empty() || !o.skip.empty()) skipped = std::move(left_alone);
  if (is_four_bit(o.format) || o.format == Format::llm_int8)
    (*config)["quantization_config"] = bitsandbytes_config(o, std::move(skipped));
  config->erase("lowbit_quantization");  // of other weights
  if (o.scales == Scales::search) {
    const char* how = o.calibration.empty() ? "scales searched" : "scales searched for the inputs on a text";
    (*config)["lowbit_quantization"] = {{"method", lowbit::format_name(o.format)}, {"weight", how}, {"activation", "as it is"}};
  }
  if (o.format == Format::int8)
    (*config)["lowbit_quantization"] = {
        {"method", "int8"}, {"weight", "per-row absmax/127"}, {"activation", "per-token absmax/127"}};
  return config;
}

// The tensors that hold a quantized weight in a file; their bytes may be those of `tensor`.
io::StateDict state_of(const TensorView& view, const lowbit::Tensor& tensor, const Options& o) {
  io::StateDict state;
  if (is_four_bit(o.format)) {
    io::add_four_bit(state, view.name, tensor, torch_name(rest_of(o).value_or(view.dtype)), o.storage);
  } else if (o.format == Format::llm_int8) {
    io::add_llm_int8(state, io::module_name(view.name), tensor);
  } else {
    const auto& p = tensor.parts();
    state.add(view.name, DType::I8, {p.rows, p.cols}, p.codes.data(), p.codes.size());
    state.add(view.name + "_scale", DType::F32, {p.rows}, p.scales.data(), p.scales.size_bytes());
  }
  return state;
}

void add_quantized(ShardWriter& writer, const TensorView& view, const lowbit::Tensor& tensor, const Options& o, Summary& summary) {
  const io::StateDict state = state_of(view, tensor, o);
  for (const io::TensorToWrite& t : state.tensors) {
    writer.add(t, false);
    summary.weight_bytes += t.bytes.size();
  }
  ++summary.weights;
  summary.elements += view.elements();
}

// ---- dequantize ----------------------------------------------------------------------------------------------------------------

// The bytes of a weight as `type`, [out, in], or [in, out] where `turned`.  Throws InvalidArgument that opens with `where` if one is
// not finite, also as `type`.
lowbit::AlignedBuffer<std::byte> decoded_as(DType type, const lowbit::Tensor& tensor, bool turned, const std::string& where,
                                            lowbit::Executor& executor) {
  const std::size_t rows = tensor.rows(), cols = tensor.cols(), size = io::dtype_bits(type) / 8;
  lowbit::AlignedBuffer<std::byte> out(tensor.size() * size);
  lowbit::detail::for_row_parts(rows, executor, [&](std::size_t, std::size_t begin, std::size_t end) {
    std::vector<float> row(cols);
    for (std::size_t r = begin; r < end; ++r) {
      tensor.dequantize_rows(r, r + 1, row.data());
      if (const std::size_t c = lowbit::first_non_finite(row.data(), cols); c != cols)
        raise<InvalidArgument>(
            fmt::format("{}: expected finite weights, found {} at element [{}, {}] of [out, in], decoded", where, row[c], r, c));
      for (std::size_t c = 0; c < cols; ++c) {
        std::byte* at = out.data() + (turned ? c * rows + r : r * cols + c) * size;
        const auto store = [&]<class T>(T) {
          const T element = lowbit::DenseElement<T>::encode(row[c]);
          if (!lowbit::is_finite_bits(lowbit::to_float(element))) refuse_overflow(where, row[c], type);
          std::memcpy(at, &element, sizeof(T));
        };
        if (type == DType::F16)
          store(lowbit::Float16{});
        else if (type == DType::BF16)
          store(lowbit::BFloat16{});
        else
          store(float{});
      }
    }
  });
  return out;
}

// conv1d: linear layers' weights stand as [in, out] in the file; embeddings and heads as they are.
void add_decoded(ShardWriter& writer, const io::ModelFiles& files, const io::StoredWeight& w, DType type, bool conv1d,
                 lowbit::Executor& executor, Summary& summary) {
  const lowbit::Tensor tensor = io::read_quantized(files, w);
  const bool turned = conv1d && !is_kept_by_default(io::module_name(w.name));
  const auto out = decoded_as(type, tensor, turned, files.at(w.parts.front()).where(), executor);
  std::vector<std::size_t> shape{tensor.rows(), tensor.cols()};
  if (turned) std::swap(shape[0], shape[1]);
  writer.add({w.name, type, shape, {out.data(), out.size()}}, false);
  writer.count_parameters(tensor.size());
  ++summary.weights;
  summary.elements += tensor.size();
  summary.parameters += tensor.size();
  summary.weight_bytes += out.size();
}

}  // namespace

int quantize_folder(const Options& o) {
  const ModelFolder in = ModelFolder::open(o.in);
  std::optional<ModelFolder> offsets;
  if (!o.offsets_of.empty()) offsets.emplace(ModelFolder::open(o.offsets_of));
  const bool rounded_only = is_rounding(o.format);
  const std::vector<io::StoredWeight> weights = io::stored_weights(in.files);
  std::vector<std::string> left_alone;
  const std::vector<bool> chosen = choose_weights(in, weights, o, left_alone);
  const std::optional<io::Json> config = quantized_config(in, o, std::move(left_alone));
  Summary summary;
  for (const io::StoredWeight& w : weights) {
    summary.bytes_in += in.files.at(w.name).data.size();
    summary.parameters += in.files.at(w.name).elements();
  }

  lowbit::ThreadPool pool(o.threads);
  const Calibration calibration =
      o.calibration.empty() ? Calibration() : calibrate(in.folder, o.calibration, o.calibration_rows, pool);
  if (!o.calibration.empty())
    summary.calibration = {{"text", o.calibration.string()},
                           {"rows", calibration.rows},
                           {"tokens", calibration.tokens},
                           {"cut_rows", calibration.cut_rows},
                           {"positions", calibration.positions}};
  const bool conv1d = in.has_conv1d();
  write_folder(o, in, config, summary, [&](ShardWriter& writer) {
    ByteProgress progress(rounded_only ? "rounding" : "quantizing", summary.bytes_in);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (examples::interrupted()) throw Interrupted{};
      const TensorView& view = in.files.at(weights[i].name);
      if (chosen[i]) {
        const Matrix m = Matrix::of(view, conv1d && !is_kept_by_default(io::module_name(view.name)), rest_of(o));
        const lowbit::Tensor tensor = is_four_bit(o.format)
                                          ? four_bit_tensor(m, o, offset_in(offsets, view.name), calibration.of(view.name), pool)
                                          : quantize_rows(m, o.format, pool);
        add_quantized(writer, view, tensor, o, summary);
      } else {
        add_plain(writer, view, rest_of(o));
      }
      progress.step(view.data.size(), view.name);
      io::release_pages(view.data);
    }
  });
  if (rounded_only) {
    summary.weights = weights.size();
    summary.elements = summary.parameters;
    summary.weight_bytes = summary.bytes_out;
  }
  say_summary(o, summary, rounded_only ? "rounded" : "quantized");
  return 0;
}

int dequantize_folder(const Options& o) {
  const ModelFolder in = ModelFolder::open(o.in);
  const DType type = o.format == Format::f16 ? DType::F16 : o.format == Format::bf16 ? DType::BF16 : DType::F32;
  const std::vector<io::StoredWeight> weights = io::stored_weights(in.files);
  Summary summary;
  for (const io::StoredWeight& w : weights) summary.bytes_in += bytes_of(in.files, w);
  std::optional<io::Json> config = in.config;
  if (config) {
    config->erase("quantization_config");
    config->erase("lowbit_quantization");
    set_dtype(*config, type);
  }
  lowbit::ThreadPool pool(o.threads);
  const bool conv1d = in.has_conv1d();
  write_folder(o, in, config, summary, [&](ShardWriter& writer) {
    ByteProgress progress("decoding", summary.bytes_in);
    for (const io::StoredWeight& w : weights) {
      if (examples::interrupted()) throw Interrupted{};
      if (w.kind == io::StoredWeight::Kind::plain) {
        const TensorView& view = in.files.at(w.name);
        add_plain(writer, view, type);
        writer.count_parameters(view.elements());
        summary.parameters += view.elements();
      } else {
        add_decoded(writer, in.files, w, type, conv1d, pool, summary);
      }
      progress.step(bytes_of(in.files, w), w.name);
      release(in.files, w);
    }
  });
  say_summary(o, summary, "decoded");
  return 0;
}

}  // namespace quantize
