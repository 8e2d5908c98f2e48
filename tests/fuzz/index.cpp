// SPDX-License-Identifier: MIT
// model.safetensors.index.json, with two shards beside it: no file outside the folder is opened, and a name leads to its tensor.
#include "fuzz/scratch.hpp"
#include "lowbit/io/model_files.hpp"
#include "lowbit/io/safetensors_writer.hpp"

namespace io = lowbit::io;

namespace {

std::string shard(const char* name, const std::string& data) {
  const std::vector<io::TensorToWrite> list{{name, io::DType::U8, {data.size()}, std::as_bytes(std::span(data))}};
  const std::vector<std::byte> bytes = io::serialize_safetensors(list);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lowbit_fuzz::Scratch folder;
  static const bool shards = (folder.put("a.safetensors", shard("a", "12345")), folder.put("b.safetensors", shard("b", "6")), true);
  static_cast<void>(shards);
  const std::filesystem::path path = folder.put("model.safetensors.index.json", lowbit_fuzz::text_of(data, size));
  // What a shard holds, and so what its messages begin with, is not the index's.
  lowbit_fuzz::reads(path.parent_path().string(), [&] {
    const io::ModelFiles files = io::ModelFiles::open(path);
    lowbit_fuzz::expect(files.shards().size() <= 2, "no files but the two");
    for (const std::string& name : files.names()) {
      lowbit_fuzz::expect(files.at(name).name == name, "a tensor under its name");
      lowbit_fuzz::touch(files.at(name).data);
    }
  });
  return 0;
}
