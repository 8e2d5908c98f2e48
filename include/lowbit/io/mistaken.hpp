// SPDX-License-Identifier: MIT
// What a file is that is not what it should be: downloads go wrong in a few usual ways, and a message that names the way saves an hour.
#pragma once
#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

#include "lowbit/base/config.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// "a git-LFS pointer ..." and so on by the first bytes of a file; empty where they say nothing.
inline std::string mistaken_for(std::string_view bytes) {
  if (bytes.starts_with("version https://git-lfs.github.com/spec/"))
    return "a git-LFS pointer in place of the file; git lfs pull fetches the file itself";
  if (bytes.starts_with("PK\x03\x04"))
    return "a zip archive, as spreadsheets and PyTorch's .bin and .pt files are; a model is to be saved as safetensors "
           "(save_pretrained does)";
  if (bytes.starts_with("\x80\x02") || bytes.starts_with("\x80\x04"))
    return "a pickle, as PyTorch's older .bin files are; save the model as safetensors (save_pretrained does)";
  if (bytes.starts_with("GGUF")) return "a GGUF file; read it as such";
  if (bytes.starts_with("\x1F\x8B")) return "a gzip archive; unpack it";
  if (bytes.starts_with("\xFD"
                        "7zXZ"))
    return "an xz archive; unpack it";
  if (bytes.starts_with("\x89HDF")) return "an HDF5 file, as Keras writes; save the model as safetensors";
  // A page that says "not found" or "log in" where a file was asked for.
  std::string start;
  for (const char c : bytes.substr(0, 256))
    if (!start.empty() || std::isspace(static_cast<unsigned char>(c)) == 0)
      start += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (start.starts_with("\xEF\xBB\xBF")) start.erase(0, 3);
  if (start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<head"))
    return "an HTML page; the download got a web page (of an error, or to log in) in place of the file";
  return {};
}

}  // namespace lowbit::io::inline LOWBIT_ABI
