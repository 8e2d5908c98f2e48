// SPDX-License-Identifier: MIT
// The weight files of a new model folder, written while their tensors are made: one file, or shards and an index.  What a file will
// hold waits on disk, not in memory.  Which tensor goes into which shard, their order in a file, and the index are those that
// transformers (huggingface_hub's split, safetensors' sort) writes.
#pragma once
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/io/safetensors_writer.hpp"

namespace quantize {

// Not thread safe.
class ShardWriter {
 public:
  // shard_bytes: the most that the tensors of one file may take; one that takes more has a file of its own.
  ShardWriter(std::filesystem::path folder, std::size_t shard_bytes);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // Takes a tensor.  kept: the bytes stay where they are until finish(); else they are copied.
  // Throws IoError that names the file.
  void add(const lowbit::io::TensorToWrite& tensor, bool kept);
  // Parameters that the tensors stand for: for the index.
  void count_parameters(std::size_t n) { parameters_ += n; }
  // Writes what is left, gives the files their names and writes the index.  Returns the bytes of all tensors.
  std::size_t finish();

 private:
  struct Entry {
    lowbit::io::TensorToWrite tensor;
    bool kept = false;
    std::size_t offset = 0;  // in the scratch file, where not kept
  };
  void flush();
  void write_shard(std::vector<Entry> entries, std::span<const std::byte> scratch);

  std::filesystem::path folder_, scratch_path_;
  std::size_t shard_bytes_;
  std::FILE* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
  std::vector<Entry> entries_;  // of the shard that is being filled
  std::size_t entries_bytes_ = 0;
  std::vector<std::vector<std::string>> shards_;  // the names in each file that is written
  std::size_t total_bytes_ = 0, parameters_ = 0;
};

}  // namespace quantize
