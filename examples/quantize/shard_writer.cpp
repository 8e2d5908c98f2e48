// SPDX-License-Identifier: MIT
#include "examples/quantize/shard_writer.hpp"

#include <algorithm>
#include <cerrno>
#include <map>

#include <fmt/format.h>

#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/system_file.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/residency.hpp"
#include "lowbit/io/safetensors_writer.hpp"

namespace quantize {

namespace io = lowbit::io;

ShardWriter::ShardWriter(std::filesystem::path folder, std::size_t shard_bytes)
    : folder_(std::move(folder)), scratch_path_(folder_ / "tensors.part"), shard_bytes_(shard_bytes) {}

ShardWriter::~ShardWriter() {
  if (scratch_ != nullptr) std::fclose(scratch_);
}

void ShardWriter::add(const io::TensorToWrite& tensor, bool kept) {
  const std::size_t bytes = tensor.bytes.size();
  total_bytes_ += bytes;
  if (bytes > shard_bytes_) {
    write_shard({{tensor, true, 0}}, {});
    return;
  }
  if (!entries_.empty() && entries_bytes_ + bytes > shard_bytes_) flush();
  Entry entry{tensor, kept, scratch_bytes_};
  if (!kept) {
    if (scratch_ == nullptr && (scratch_ = std::fopen(scratch_path_.string().c_str(), "wb")) == nullptr)
      io::detail::raise_io(scratch_path_, "create", errno);
    if (bytes != 0 && std::fwrite(tensor.bytes.data(), 1, bytes, scratch_) != bytes)
      io::detail::raise_io(scratch_path_, "write", errno);
    scratch_bytes_ += bytes;
  }
  entries_.push_back(std::move(entry));
  entries_bytes_ += bytes;
}

void ShardWriter::flush() {
  if (scratch_ != nullptr && std::fclose(std::exchange(scratch_, nullptr)) != 0)
    io::detail::raise_io(scratch_path_, "write", errno);
  const io::MappedFile scratch = scratch_bytes_ == 0 ? io::MappedFile() : io::MappedFile(scratch_path_);
  write_shard(std::exchange(entries_, {}), scratch.bytes());
  entries_bytes_ = scratch_bytes_ = 0;
  std::error_code ignored;
  std::filesystem::remove(scratch_path_, ignored);
}

void ShardWriter::write_shard(std::vector<Entry> entries, std::span<const std::byte> scratch) {
  for (Entry& e : entries)
    if (!e.kept) e.tensor.bytes = scratch.subspan(e.offset, e.tensor.bytes.size());
  // As safetensors sorts: wide types first, then by name.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.tensor.dtype != b.tensor.dtype ? a.tensor.dtype > b.tensor.dtype : a.tensor.name < b.tensor.name;
  });
  std::vector<io::TensorToWrite> tensors;
  std::vector<std::string>& names = shards_.emplace_back();
  for (Entry& e : entries) {
    names.push_back(e.tensor.name);
    tensors.push_back(std::move(e.tensor));
  }
  const std::string header = io::safetensors_header(tensors, {{"format", "pt"}});
  io::write_atomically(folder_ / fmt::format("shard-{}", shards_.size()), [&](io::FileWriter& writer) {
    writer.write(header);
    for (const io::TensorToWrite& t : tensors) {
      constexpr std::size_t part = std::size_t{16} << 20;
      for (std::size_t begin = 0; begin < t.bytes.size(); begin += part) {
        const auto bytes = t.bytes.subspan(begin, std::min(part, t.bytes.size() - begin));
        writer.write(bytes);
        io::release_pages(bytes);
      }
    }
  });
}

std::size_t ShardWriter::finish() {
  if (!entries_.empty() || shards_.empty()) flush();
  const auto rename = [&](std::size_t shard, const std::string& name) {
    std::error_code failure;
    std::filesystem::rename(folder_ / fmt::format("shard-{}", shard), folder_ / name, failure);
    if (failure) io::detail::raise_io(folder_ / name, "make", failure.default_error_condition().value());
  };
  if (shards_.size() == 1) {
    rename(1, "model.safetensors");
    return total_bytes_;
  }
  std::map<std::string, std::string> file_of;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards_.size());
    rename(i + 1, name);
    for (const std::string& tensor : shards_[i]) file_of.emplace(tensor, name);
  }
  io::Json index = {{"metadata", {{"total_parameters", parameters_}, {"total_size", total_bytes_}}},
                    {"weight_map", io::Json::object()}};
  for (const auto& [tensor, name] : file_of) index["weight_map"].push_back({tensor, name});
  io::write_atomically(folder_ / "model.safetensors.index.json", std::string_view(index.dump(2, ' ', true) + "\n"));
  return total_bytes_;
}

}  // namespace quantize
