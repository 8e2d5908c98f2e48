// SPDX-License-Identifier: MIT
// The interface for C: every function of lowbit.h over the C++ one, with its exceptions turned into codes and messages.
#include "lowbit.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "lowbit/io/bitsandbytes.hpp"
#include "lowbit/io/model_files.hpp"
#include "lowbit/lowbit.hpp"

#if !LOWBIT_EXCEPTIONS
#error "cmake/c.cpp turns exceptions into codes: compile it with exceptions"
#endif

struct lowbit_tensor {
  lowbit::Tensor tensor;
};
struct lowbit_file {
  lowbit::io::ModelFiles files;
  std::vector<std::string> names;
  std::vector<const lowbit::io::TensorView*> views;
};
struct lowbit_pool {
  lowbit::ThreadPool pool;
};
struct lowbit_linear {
  lowbit::Linear layer;
};

namespace {

using lowbit::require;

thread_local char last_error[1024] = "";

lowbit_status fail(lowbit_status status, const char* message) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s", message);
  return status;
}

// Runs what a function of the interface does.
template <class Body>
lowbit_status guarded(const Body& body) noexcept {
  try {
    body();
    return LOWBIT_OK;
  } catch (const lowbit::InvalidArgument& e) {
    return fail(LOWBIT_INVALID_ARGUMENT, e.what());
  } catch (const lowbit::FormatError& e) {
    return fail(LOWBIT_FORMAT_ERROR, e.what());
  } catch (const lowbit::IoError& e) {
    return fail(LOWBIT_IO_ERROR, e.what());
  } catch (const std::bad_alloc&) {
    return fail(LOWBIT_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return fail(LOWBIT_INTERNAL_ERROR, e.what());
  } catch (...) {
    return fail(LOWBIT_INTERNAL_ERROR, "an exception of an unknown type");
  }
}

void refuse_null(const void* pointer, const char* function, const char* argument) {
  require(pointer != nullptr, [&] { return std::string(function) + ": " + argument + ": expected a pointer, found NULL"; });
}
void require_flag(std::int32_t flag, const char* function, const char* argument) {
  require(flag == 0 || flag == 1,
          [&] { return std::string(function) + ": " + argument + ": expected 0 or 1, found " + lowbit::decimal(flag); });
}
[[noreturn]] void refuse_value(const char* function, const char* argument, const char* expected, std::int32_t found) {
  lowbit::raise<lowbit::InvalidArgument>(std::string(function) + ": " + argument + ": expected " + expected + ", found " +
                                         lowbit::decimal(found));
}

// The enumerators of C by those of C++, which may be in another order one day.
lowbit_format format_code(lowbit::Format format) {
  switch (format) {
    case lowbit::Format::f32: return LOWBIT_F32;
    case lowbit::Format::f16: return LOWBIT_F16;
    case lowbit::Format::bf16: return LOWBIT_BF16;
    case lowbit::Format::int8: return LOWBIT_INT8;
    case lowbit::Format::nf4: return LOWBIT_NF4;
    case lowbit::Format::fp4: return LOWBIT_FP4;
    case lowbit::Format::llm_int8: return LOWBIT_LLM_INT8;
  }
  lowbit::raise<lowbit::Error>("a format without a code");
}
lowbit::Compute compute_of(lowbit_compute compute) {
  switch (compute) {
    case LOWBIT_COMPUTE_F32: return lowbit::Compute::f32;
    case LOWBIT_COMPUTE_BF16: return lowbit::Compute::bf16;
    case LOWBIT_COMPUTE_INT8: return lowbit::Compute::int8;
    case LOWBIT_COMPUTE_AUTOMATIC: return lowbit::Compute::automatic;
    default: refuse_value("lowbit_linear_create", "compute", "a LOWBIT_COMPUTE_ constant", compute);
  }
}
lowbit_compute compute_code(lowbit::Compute compute) {
  return compute == lowbit::Compute::f32    ? LOWBIT_COMPUTE_F32
         : compute == lowbit::Compute::bf16 ? LOWBIT_COMPUTE_BF16
         : compute == lowbit::Compute::int8 ? LOWBIT_COMPUTE_INT8
                                            : LOWBIT_COMPUTE_AUTOMATIC;
}
lowbit::Activation activation_of(lowbit_activation activation) {
  switch (activation) {
    case LOWBIT_ACTIVATION_NONE: return lowbit::Activation::none;
    case LOWBIT_ACTIVATION_GELU_TANH: return lowbit::Activation::gelu_tanh;
    case LOWBIT_ACTIVATION_RELU: return lowbit::Activation::relu;
    case LOWBIT_ACTIVATION_GELU: return lowbit::Activation::gelu;
    case LOWBIT_ACTIVATION_SILU: return lowbit::Activation::silu;
    default: refuse_value("lowbit_multiply", "activation", "a LOWBIT_ACTIVATION_ constant", activation);
  }
}

lowbit::Tensor four_bit(lowbit_format format, const float* w, std::size_t rows, std::size_t cols, std::size_t block_size,
                        bool double_quantized) {
  const lowbit::FourBitOptions options{.block_size = block_size == 0 ? 64 : block_size, .double_quantized = double_quantized};
  using lowbit::any_block_size, lowbit::AnyAbsmax;
  if (format == LOWBIT_NF4) return lowbit::NF4Tensor<any_block_size, AnyAbsmax>::quantize(w, rows, cols, options);
  return lowbit::FP4Tensor<any_block_size, AnyAbsmax>::quantize(w, rows, cols, options);
}
// As Int8Tensor::quantize(), with a block size that is known only now.
lowbit::Tensor int8(const float* w, std::size_t rows, std::size_t cols, std::size_t block_size) {
  if (block_size == 0) return lowbit::Int8Tensor<>::quantize(w, rows, cols);
  lowbit::TensorParts p;
  p.format = lowbit::Format::int8;
  p.rows = rows;
  p.cols = cols;
  p.block = block_size;
  const std::size_t n = lowbit::checked_mul(rows, cols, "tensor shape");
  lowbit::require_finite(w, rows, cols);
  p.codes.reset(n);
  p.scales.reset(lowbit::block_count(n, block_size));
  lowbit::quantize_int8(w, n, block_size, reinterpret_cast<std::int8_t*>(p.codes.data()), p.scales.data());
  return lowbit::Tensor(std::move(p));
}
lowbit::Tensor quantize(lowbit_format format, const float* w, std::size_t rows, std::size_t cols, std::size_t block_size,
                        bool double_quantized) {
  if (format == LOWBIT_NF4 || format == LOWBIT_FP4) return four_bit(format, w, rows, cols, block_size, double_quantized);
  require(!double_quantized, [] { return "lowbit_quantize: double_quantized: only NF4 and FP4 have it"; });
  if (format == LOWBIT_INT8) return int8(w, rows, cols, block_size);
  require(block_size == 0, [&] {
    return "lowbit_quantize: block_size: expected 0 for a format whose blocks are given, found " + lowbit::decimal(block_size);
  });
  switch (format) {
    case LOWBIT_F32: return lowbit::DenseTensor<float>::quantize(w, rows, cols);
    case LOWBIT_F16: return lowbit::DenseTensor<lowbit::Float16>::quantize(w, rows, cols);
    case LOWBIT_BF16: return lowbit::DenseTensor<lowbit::BFloat16>::quantize(w, rows, cols);
    case LOWBIT_LLM_INT8: return lowbit::LlmInt8Tensor::quantize(w, rows, cols);
    default: refuse_value("lowbit_quantize", "format", "a format", format);
  }
}

lowbit::Tensor copy(const lowbit::Tensor& tensor) {
  const lowbit::TensorParts& from = tensor.parts();
  lowbit::TensorParts p;
  p.format = from.format;
  p.rows = from.rows;
  p.cols = from.cols;
  p.codes = from.codes.clone();
  p.block = from.block;
  p.scales = from.scales.clone();
  p.scale_codes = from.scale_codes.clone();
  p.nested = from.nested.clone();
  p.nested_map = from.nested_map;
  p.offset = from.offset;
  p.table = from.table;
  return lowbit::Tensor(std::move(p));
}

// A tensor of floats, in the type in which the file has it.
lowbit::Tensor load_dense(const lowbit::io::TensorView& view) {
  using lowbit::io::DType;
  lowbit::TensorParts p;
  switch (view.dtype) {
    case DType::F32: p.format = lowbit::Format::f32; break;
    case DType::F16: p.format = lowbit::Format::f16; break;
    case DType::BF16: p.format = lowbit::Format::bf16; break;
    default:
      lowbit::raise<lowbit::FormatError>(view.where() +
                                         ": expected F32, F16, BF16 or a weight with bitsandbytes' state beside it, found " +
                                         std::string(lowbit::io::dtype_name(view.dtype)));
  }
  if (view.shape.empty() || view.shape.size() > 2)
    lowbit::raise<lowbit::FormatError>(view.where() + ": expected one or two dimensions, found shape " +
                                       lowbit::io::shape_string(view.shape));
  p.rows = view.shape.size() == 2 ? view.shape[0] : 1;
  p.cols = view.shape.back();
  p.codes.reset(view.data.size());
  if (!view.data.empty()) std::memcpy(p.codes.data(), view.data.data(), view.data.size());
  return lowbit::Tensor(std::move(p));
}
lowbit::Tensor load(const lowbit::io::TensorSource& source, const std::string& name) {
  const lowbit::io::TensorView& view = source.at(name);
  if (lowbit::io::is_four_bit(source, name)) return lowbit::io::read_four_bit(source, name).tensor;
  constexpr std::string_view suffix = ".weight";
  if (name.ends_with(suffix))
    if (const std::string module = name.substr(0, name.size() - suffix.size()); lowbit::io::is_llm_int8(source, module))
      return lowbit::io::read_llm_int8(source, module);
  return load_dense(view);
}

// Rows of a caller, as the type that their code names: passes a view of them to use().
template <class Void, class Use>
void with_rows(const char* argument, lowbit_format type, Void* data, std::size_t rows, std::size_t cols, std::size_t stride,
               const Use& use) {
  if (rows != 0) refuse_null(data, "lowbit_multiply", argument);
  const auto typed = [&]<class T>(T) {
    using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;
    use(lowbit::MatrixView<Element>(static_cast<Element*>(data), rows, cols, stride == 0 ? cols : stride));
  };
  switch (type) {
    case LOWBIT_F32: return typed(float{});
    case LOWBIT_F16: return typed(lowbit::Float16{});
    case LOWBIT_BF16: return typed(lowbit::BFloat16{});
    default:
      refuse_value("lowbit_multiply", (std::string(argument) + "_type").c_str(), "LOWBIT_F32, LOWBIT_F16 or LOWBIT_BF16", type);
  }
}

}  // namespace

extern "C" {

const char* lowbit_last_error_message(void) { return last_error; }
std::int32_t lowbit_c_version(void) { return LOWBIT_C_VERSION; }
const char* lowbit_version(void) { return LOWBIT_VERSION; }

lowbit_status lowbit_quantize(lowbit_format format, const float* w, std::size_t rows, std::size_t cols, std::size_t block_size,
                              std::int32_t double_quantized, lowbit_tensor** out) {
  return guarded([&] {
    if (rows != 0 && cols != 0) refuse_null(w, "lowbit_quantize", "w");
    refuse_null(out, "lowbit_quantize", "out");
    require_flag(double_quantized, "lowbit_quantize", "double_quantized");
    *out = new lowbit_tensor{quantize(format, w, rows, cols, block_size, double_quantized == 1)};
  });
}
lowbit_status lowbit_tensor_describe(const lowbit_tensor* tensor, lowbit_tensor_info* out) {
  return guarded([&] {
    refuse_null(tensor, "lowbit_tensor_describe", "tensor");
    refuse_null(out, "lowbit_tensor_describe", "out");
    const lowbit::Tensor& t = tensor->tensor;
    *out = {t.rows(),
            t.cols(),
            t.block_size(),
            t.element_bytes(),
            t.resident_bytes(),
            format_code(t.format()),
            t.double_quantized() ? 1 : 0};
  });
}
lowbit_status lowbit_dequantize(const lowbit_tensor* tensor, lowbit_format type, void* out, std::size_t elements) {
  return guarded([&] {
    refuse_null(tensor, "lowbit_dequantize", "tensor");
    const lowbit::Tensor& t = tensor->tensor;
    require(elements == t.size(), [&] {
      return "lowbit_dequantize: elements: expected " + lowbit::decimal(t.size()) + " for shape " +
             lowbit::shape_string(t.rows(), t.cols()) + ", found " + lowbit::decimal(elements);
    });
    if (elements != 0) refuse_null(out, "lowbit_dequantize", "out");
    switch (type) {
      case LOWBIT_F32: return t.dequantize(static_cast<float*>(out));
      case LOWBIT_F16: return t.dequantize(static_cast<lowbit::Float16*>(out));
      case LOWBIT_BF16: return t.dequantize(static_cast<lowbit::BFloat16*>(out));
      default: refuse_value("lowbit_dequantize", "type", "LOWBIT_F32, LOWBIT_F16 or LOWBIT_BF16", type);
    }
  });
}
void lowbit_tensor_free(lowbit_tensor* tensor) { delete tensor; }

lowbit_status lowbit_file_open(const char* path, lowbit_file** out) {
  return guarded([&] {
    refuse_null(path, "lowbit_file_open", "path");
    refuse_null(out, "lowbit_file_open", "out");
    const std::filesystem::path native(reinterpret_cast<const char8_t*>(path));
    auto file = std::make_unique<lowbit_file>(lowbit_file{lowbit::io::ModelFiles::open(native), {}, {}});
    file->names = file->files.names();
    for (const std::string& name : file->names) file->views.push_back(&file->files.at(name));
    *out = file.release();
  });
}
std::size_t lowbit_file_count(const lowbit_file* file) { return file == nullptr ? 0 : file->names.size(); }
lowbit_status lowbit_file_describe(const lowbit_file* file, std::size_t i, lowbit_file_entry* out) {
  return guarded([&] {
    refuse_null(file, "lowbit_file_describe", "file");
    refuse_null(out, "lowbit_file_describe", "out");
    require(i < file->names.size(), [&] {
      return "lowbit_file_describe: i: expected less than " + lowbit::decimal(file->names.size()) + ", found " + lowbit::decimal(i);
    });
    const lowbit::io::TensorView& view = *file->views[i];
    // The names of types are literals.
    *out = {file->names[i].c_str(), lowbit::io::dtype_name(view.dtype).data(), view.shape.data(), view.shape.size(),
            view.data.size()};
  });
}
lowbit_status lowbit_file_load(const lowbit_file* file, const char* name, lowbit_tensor** out) {
  return guarded([&] {
    refuse_null(file, "lowbit_file_load", "file");
    refuse_null(name, "lowbit_file_load", "name");
    refuse_null(out, "lowbit_file_load", "out");
    *out = new lowbit_tensor{load(file->files, name)};
  });
}
void lowbit_file_free(lowbit_file* file) { delete file; }

lowbit_status lowbit_pool_create(std::size_t threads, lowbit_pool** out) {
  return guarded([&] {
    refuse_null(out, "lowbit_pool_create", "out");
    *out = new lowbit_pool{lowbit::ThreadPool(threads)};
  });
}
std::size_t lowbit_pool_threads(const lowbit_pool* pool) {
  std::size_t threads = 0;
  if (pool != nullptr) guarded([&] { threads = pool->pool.concurrency(); });  // after fork() it makes threads, which may fail
  return threads;
}
void lowbit_pool_free(lowbit_pool* pool) { delete pool; }

lowbit_status lowbit_level_name(const char** out) {
  return guarded([&] {
    refuse_null(out, "lowbit_level_name", "out");
    *out = lowbit::level_name(lowbit::active_level());
  });
}
lowbit_status lowbit_set_level(const char* name) {
  return guarded([&] {
    refuse_null(name, "lowbit_set_level", "name");
    lowbit::set_level(lowbit::level_from_name(name));
  });
}

lowbit_status lowbit_linear_create(const lowbit_tensor* weights, const float* bias, lowbit_compute compute, std::int32_t pack,
                                   lowbit_linear** out) {
  return guarded([&] {
    refuse_null(weights, "lowbit_linear_create", "weights");
    refuse_null(out, "lowbit_linear_create", "out");
    require_flag(pack, "lowbit_linear_create", "pack");
    const lowbit::Tensor& t = weights->tensor;
    const lowbit::ComputeOptions options{.compute = compute_of(compute)};
    *out = pack == 1 && t.rows() != 0 && lowbit::PackedTensor::packable(t)
               ? new lowbit_linear{lowbit::Linear(lowbit::PackedTensor::pack(t), bias, options)}
               : new lowbit_linear{lowbit::Linear(copy(t), bias, {options, false})};
  });
}
lowbit_status lowbit_linear_describe(const lowbit_linear* layer, lowbit_linear_info* out) {
  return guarded([&] {
    refuse_null(layer, "lowbit_linear_describe", "layer");
    refuse_null(out, "lowbit_linear_describe", "out");
    const lowbit::Linear& l = layer->layer;
    *out = {l.rows(), l.cols(), l.resident_bytes(), format_code(l.format()), compute_code(l.plan().compute), l.packed() ? 1 : 0};
  });
}
lowbit_status lowbit_multiply(const lowbit_linear* layer, lowbit_format x_type, const void* x, std::size_t m, std::size_t x_stride,
                              lowbit_format y_type, void* y, std::size_t y_stride, lowbit_activation activation,
                              lowbit_pool* pool) {
  return guarded([&] {
    refuse_null(layer, "lowbit_multiply", "layer");
    const lowbit::Linear& l = layer->layer;
    const lowbit::Epilogue epilogue{.activation = activation_of(activation)};
    const lowbit::CallOptions call{.executor = pool == nullptr ? nullptr : &pool->pool};
    with_rows("x", x_type, x, m, l.cols(), x_stride, [&](const auto& in) {
      with_rows("y", y_type, y, m, l.rows(), y_stride, [&](const auto& result) { l.forward(in, result, epilogue, call); });
    });
  });
}
void lowbit_linear_free(lowbit_linear* layer) { delete layer; }

}  // extern "C"
