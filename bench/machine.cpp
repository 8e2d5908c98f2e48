// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include <fstream>
#include <map>
#include <thread>

#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "peers.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace bench {

namespace {

// The name, and the numbers behind it: virtual machines often leave out which processor of a family it is.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::map<std::string, std::string> about;  // the first processor's
  for (std::string line; std::getline(file, line) && !line.empty();)
    if (const auto colon = line.find(": "); colon != line.npos)
      about[line.substr(0, line.find_first_of("\t:"))] = line.substr(colon + 2);
  if (about.count("model name") == 0) return "unknown";
  if (about.count("cpu family") == 0 || about.count("model") == 0) return about["model name"];
  return about["model name"] + " (family " + about["cpu family"] + ", model " + about["model"] + ")";
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "g++ " __VERSION__;
#else
  return "unknown";
#endif
}

}  // namespace

std::size_t usable_processors() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<std::size_t>(CPU_COUNT(&set));
#endif
  return std::thread::hardware_concurrency();
}

std::vector<std::pair<std::string, std::string>> circumstances() {
  const auto found = [](std::string version) { return version.empty() ? "not found" : version; };
  return {{"processor", processor()},
          {"processors", std::to_string(usable_processors())},
          {"level", lowbit::level_name(lowbit::active_level())},
          {"processor_level", lowbit::level_name(lowbit::cpu_level())},
          {"compiler", compiler()},
          {"flags", BENCH_FLAGS},
          {"lowbit", LOWBIT_VERSION},
          {"onednn", found(onednn::version())},
          {"openblas", found(openblas::version())},
          {"openblas_core", openblas::core()},
          {"eigen", eigen::version() + ", -march=native"}};
}

}  // namespace bench
