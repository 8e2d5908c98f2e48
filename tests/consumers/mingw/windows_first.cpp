// SPDX-License-Identifier: MIT
// windows.h in front of lowbit, with its macros near, far, ERROR; MinGW's defines no min and max in C++.
// clang-format off
#include <windows.h>
#include <lowbit/io/bitsandbytes.hpp>
#include <lowbit/io/bitsandbytes_writer.hpp>
#include <lowbit/io/file_writer.hpp>
#include <lowbit/io/folder_writer.hpp>
#include <lowbit/io/model_files.hpp>
#include <lowbit/io/safetensors_writer.hpp>
#include <lowbit/lowbit.hpp>
// clang-format on

#if !defined(near)
#error "windows.h has not defined its macros: this file tests nothing"
#endif

std::size_t windows_first();
std::size_t windows_first() {
  const float w[64] = {1.0f};
  return lowbit::Linear(lowbit::NF4Tensor<>::quantize(w, 1, 64)).resident_bytes();
}
