// SPDX-License-Identifier: MIT
#include "examples/four_models/resident.hpp"

#if defined(__linux__)
#include <charconv>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "examples/common/process_memory.hpp"

extern char** environ;
#endif

namespace examples {

#if defined(__linux__)

std::optional<std::size_t> resident_growth(const std::function<lowbit::gpt2::Transformer()>& make) {
  return_freed_buffers();
  const auto before = anonymous_bytes();
  const lowbit::gpt2::Transformer model = make();
  const auto after = anonymous_bytes();
  if (!before || !after || *after < *before) return std::nullopt;
  return *after - *before;
}

std::optional<std::size_t> number_from_own_process(const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  std::vector<std::string> copies = arguments;
  std::vector<char*> argv;
  for (std::string& a : copies) argv.push_back(a.data());
  argv.push_back(nullptr);
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::pid_t child = 0;
  const bool started = ::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ) == 0;
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string text;
  char buffer[64];
  // A read that Ctrl-C cuts short ends the wait as well: the child got the signal too.
  for (::ssize_t n; started && (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  if (!started || ::waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::nullopt;
  std::size_t number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc()) return std::nullopt;
  return number;
}

#else

std::optional<std::size_t> resident_growth(const std::function<lowbit::gpt2::Transformer()>&) { return std::nullopt; }
std::optional<std::size_t> number_from_own_process(const std::vector<std::string>&) { return std::nullopt; }

#endif

}  // namespace examples
