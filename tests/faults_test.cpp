// SPDX-License-Identifier: MIT
// What the system may do to a file while it is read or written: shorten or replace it, run out of room at any byte, refuse access.
// Each has a behaviour that docs/reliability.md states.  Tests run in a child process where they end one or give up its rights.
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/folder_writer.hpp"
#include "lowbit/io/gguf_writer.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/io/system_file.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"

#if LOWBIT_POSIX
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace faults_test {

namespace fs = std::filesystem;
namespace io = lowbit::io;
using lowbit::IoError;
using lowbit_test::file_names;
using lowbit_test::Folder;
using lowbit_test::put_file;
using lowbit_test::unsaid;

namespace {

// What became of action() in a child of this process: the code that it returned, or 1000 and the signal that ended the child.
int in_child(const std::function<int()>& action) {
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::signal(SIGBUS, SIG_DFL);  // a sanitizer's handler would exit
    int code = 99;
    try {
      code = action();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// While it lives, no file of this process grows beyond a size: the system refuses the write as it does where a disk is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::size_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const ::rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  ::rlimit before_{};
  void (*handler_)(int);
};

// A safetensors file of `floats` floats.
struct Model {
  std::vector<float> values;
  explicit Model(std::size_t floats) : values(floats, 1.5f) {}
  std::vector<io::TensorToWrite> tensors() const {
    return {{"w", io::DType::F32, {values.size()}, std::as_bytes(std::span(values))}};
  }
};

}  // namespace

TEST_CASE("a file that is shortened while it is mapped ends who reads what is gone, and nobody else") {
  const Folder folder;
  const fs::path path = folder / "model.safetensors";
  constexpr std::size_t page = 65536;  // of any system
  io::write_safetensors(path, Model(page).tensors());
  CHECK(in_child([&] {
          const io::SafeTensors file = io::SafeTensors::open(path);
          const auto data = file.at("w").data;
          ::truncate(path.c_str(), page);
          return std::to_integer<int>(data[0]) + std::to_integer<int>(data[page / 2]) == 0 ? 7 : 8;
        }) == 7);
  io::write_safetensors(path, Model(page).tensors());
  CHECK(in_child([&] {
          const io::SafeTensors file = io::SafeTensors::open(path);
          const auto data = file.at("w").data;
          ::truncate(path.c_str(), page);
          volatile std::byte kept = data[data.size() - 1];
          return static_cast<int>(kept);
        }) == 1000 + SIGBUS);
  // Opened when it is short already, it is refused.
  ::truncate(path.c_str(), page);
  CHECK(unsaid<lowbit::FormatError>([&] { io::SafeTensors::open(path); }, {path.string(), "data_offsets"}) == "");
}

TEST_CASE("a file that is replaced or removed while it is mapped stays what it was for who reads it") {
  const Folder folder;
  const fs::path path = folder / "model.safetensors";
  const Model first(30'000);
  io::write_safetensors(path, first.tensors());
  const io::SafeTensors file = io::SafeTensors::open(path);
  io::write_safetensors(path, Model(10).tensors());
  CHECK(file.at("w").copy<float>()[29'999] == 1.5f);
  CHECK(io::SafeTensors::open(path).at("w").elements() == 10);
  fs::remove(path);
  CHECK(file.at("w").copy<float>()[29'999] == 1.5f);
}

TEST_CASE("a disk that is full at any byte is an error, and the old file and its folder stay as they were") {
  const Folder folder;
  const Model model(2300);  // more than two of the stream's buffers
  io::GgufKeys keys;
  keys.add("general.architecture", "gpt2");
  const std::vector<io::GgufTensorToWrite> gguf{{"w", io::GgufType::f32, {model.values.size()}}};
  struct Writer {
    const char* name;
    std::function<void(const fs::path&)> write;
  };
  const Writer writers[] = {
      {"text", [](const fs::path& path) { io::write_atomically(path, std::string(9000, 'x')); }},
      {"model.safetensors", [&](const fs::path& path) { io::write_safetensors(path, model.tensors()); }},
      {"model.gguf",
       [&](const fs::path& path) {
         io::write_gguf(path, keys, gguf, [&](std::size_t, const io::GgufRows& rows) { rows(model.values); });
       }},
  };
  for (const Writer& writer : writers) {
    INFO(writer.name);
    const fs::path path = folder / writer.name;
    writer.write(path);
    const auto size = static_cast<std::size_t>(fs::file_size(path));
    put_file(path, "old");
    std::size_t refused = 0, wrong = 0, steps = 0;
    for (std::size_t bytes = 0; bytes < size; bytes += bytes < 4100 ? 41 : 397, ++steps) {
      std::string said;
      {
        const FileSizeLimit limit(bytes);
        said = unsaid<IoError>([&] { writer.write(path); }, {path.string(), "cannot write", "File too large"});
      }
      refused += said.empty();
      wrong += io::read_text(path) != "old" || file_names(folder) != std::vector<std::string>{writer.name};
    }
    CHECK(steps > 100);
    CHECK(refused == steps);
    CHECK(wrong == 0);
    const FileSizeLimit limit(size);
    writer.write(path);
    CHECK(fs::file_size(path) == size);
    fs::remove(path);
  }
}

TEST_CASE("a disk that is full at any file of a folder leaves the old folder as it was") {
  const Folder folder;
  const fs::path path = folder / "model";
  const auto write = [&](std::size_t bytes) {
    io::write_folder_atomically(path, [&](const fs::path& fresh) {
      for (std::size_t i = 1; i <= 4; ++i) io::write_atomically(fresh / std::to_string(i), std::string(i * bytes, 'x'));
    });
  };
  write(1);
  for (std::size_t allowed = 0; allowed < 4; ++allowed) {
    std::string said;
    {
      const FileSizeLimit limit(allowed * 1000 + 500);
      said = unsaid<IoError>([&] { write(1000); }, {std::to_string(allowed + 1) + ": cannot write", "File too large"});
    }
    CHECK(said == "");
    CHECK(file_names(folder) == std::vector<std::string>{"model"});
    CHECK(io::read_text(path / "4") == "xxxx");
  }
}

TEST_CASE("without permission nothing is read or written, and the message says so") {
  const Folder folder;
  const fs::path closed = folder / "closed", locked = folder / "locked";
  put_file(closed, "secret");
  put_file(locked / "inside", "old");
  fs::permissions(closed, fs::perms::none);
  fs::permissions(locked, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  // Root may do everything, and becomes somebody else.
  const int code = in_child([&] {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 1;
    std::error_code out_of_reach;  // a folder above may be closed as well
    if (!fs::exists(locked / "inside", out_of_reach)) return 2;
    for (const auto& read : std::vector<std::function<void()>>{[&] { io::MappedFile file(closed); }, [&] { io::read_text(closed); },
                                                               [&] { io::read_stream(closed); }, [&] { io::read_news(closed); },
                                                               [&] { io::SafeTensors::open(closed); }})
      if (!unsaid<IoError>(read, {closed.string(), "cannot open", "Permission denied"}).empty()) return 3;
    if (!unsaid<IoError>([&] { io::write_atomically(locked / "inside", std::string_view("x")); }, {"inside", "Permission denied"})
             .empty())
      return 4;
    if (!unsaid<IoError>([&] { io::write_folder_atomically(locked / "new", [](const fs::path&) {}); }, {"new", "Permission denied"})
             .empty())
      return 5;
    return 0;
  });
  fs::permissions(locked, fs::perms::owner_all);
  fs::permissions(closed, fs::perms::owner_all);
  if (code == 2)
    WARN("skipped: others may not enter the folder of the test");
  else
    CHECK(code == 0);
  CHECK(io::read_text(locked / "inside") == "old");
  CHECK(file_names(folder) == std::vector<std::string>{"closed", "locked"});
}

}  // namespace faults_test
#endif
