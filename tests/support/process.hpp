// SPDX-License-Identifier: MIT
// A program of the project as a user starts it.
#pragma once
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <spawn.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "lowbit/io/file.hpp"
#include "support/io_files.hpp"

extern char** environ;

namespace lowbit_test {

// How often a test kills a program: LOWBIT_KILLS in the environment, or `otherwise`, which is short.
inline int kills(int otherwise) {
  const char* value = std::getenv("LOWBIT_KILLS");
  return value != nullptr && std::atoi(value) > 0 ? std::atoi(value) : otherwise;
}

struct Outcome {
  int code = -1;  // 1000 + signal if it died of one
  std::string out, err;
};

// The program, under way.  Its output goes to files in `folder`, or to out_file.
class Process {
 public:
  Process(const std::string& program, const Folder& folder, std::vector<std::string> arguments, const char* out_file = nullptr)
      : out_(out_file ? out_file : (folder / "stdout").string()), err_((folder / "stderr").string()) {
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::posix_spawn_file_actions_addopen(&actions, 2, err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    // Whoever ran the tests in the background ignores signals that the program is to hear of.
    ::sigset_t signals;
    ::sigemptyset(&signals);
    for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ}) ::sigaddset(&signals, s);
    ::posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setsigdefault(&attributes, &signals);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    if (::posix_spawn(&id_, program.c_str(), &actions, &attributes, argv.data(), environ) != 0)
      throw std::runtime_error("cannot start " + program);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  void interrupt() { signal(SIGINT); }
  void signal(int number) { ::kill(id_, number); }
  Outcome wait() {
    int status = 0;
    if (::waitpid(id_, &status, 0) != id_) throw std::runtime_error("waitpid");
    const bool readable = std::filesystem::is_regular_file(out_);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), readable ? lowbit::io::read_text(out_) : "",
            lowbit::io::read_text(err_)};
  }

 private:
  std::string out_, err_;
  ::pid_t id_ = 0;
};

}  // namespace lowbit_test
