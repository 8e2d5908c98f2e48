// SPDX-License-Identifier: MIT
#include "examples/four_models/machine.hpp"

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <map>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "lowbit/lowbit.hpp"

namespace examples {

namespace {

// The name, and the numbers behind it: virtual machines often leave out which processor of a family it is.
std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  std::map<std::string, std::string> about;  // the first processor's
  for (std::string line; std::getline(file, line) && !line.empty();)
    if (const auto colon = line.find(": "); colon != line.npos)
      about[line.substr(0, line.find_first_of("\t:"))] = line.substr(colon + 2);
  if (about.count("model name") == 0) return "unknown";
  if (about.count("cpu family") == 0 || about.count("model") == 0) return about["model name"];
  return fmt::format("{} (family {}, model {})", about["model name"], about["cpu family"], about["model"]);
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#elif defined(_MSC_VER)
  return "MSVC " + std::to_string(_MSC_VER);
#else
  return "unknown";
#endif
}

}  // namespace

Machine this_machine(std::size_t threads) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return {cpu_name(),
          lowbit::level_name(lowbit::active_level()),
          compiler_name(),
          fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now)),
          lowbit::available_processors(),
          threads,
          load_average(),
          std::nullopt};
}

std::optional<double> load_average() {
#if defined(__unix__) || defined(__APPLE__)
  double load = 0;
  if (::getloadavg(&load, 1) == 1) return load;
#endif
  return std::nullopt;
}

}  // namespace examples
