// SPDX-License-Identifier: MIT
// How many processors this process may use: what its affinity and its control group leave it, not what the machine has.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "lowbit/base/config.hpp"
#include "lowbit/base/stream.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// The first line of a file, without its end; empty where it cannot be read.
LOWBIT_COLD inline std::string first_line(const std::string& path) {
  std::string line;
  if (const Stream file(std::fopen(path.c_str(), "r")); file != nullptr) {
    char text[4096];
    if (std::fgets(text, sizeof text, file.get()) != nullptr) line.assign(text, std::strcspn(text, "\n"));
  }
  return line;
}

// Processors that a quota of `quota` in every `period` is worth, rounded up; 0: no limit.
LOWBIT_COLD inline std::size_t processors_of_quota(const char* quota, const char* period) {
  const double q = std::strtod(quota, nullptr), p = std::strtod(period, nullptr);
  if (!(q > 0) || !(p > 0) || q / p > 1e6) return 0;
  const auto whole = static_cast<std::size_t>(q / p);
  return static_cast<double>(whole) * p < q ? whole + 1 : whole;
}

// The tightest CPU quota of the control group `group` ("/a/b") and those above it, both versions; 0: none.
// mount: where control groups are mounted; /sys/fs/cgroup.
LOWBIT_COLD inline std::size_t control_group_limit(const std::string& mount, std::string group, bool version_2) {
  std::size_t limit = 0;
  for (;;) {
    std::size_t here = 0;
    const std::string folder = mount + group;
    if (version_2) {  // "max 100000", or the quota and the period
      const std::string line = first_line(folder + "/cpu.max");
      if (const std::size_t space = line.find(' '); space != std::string::npos)
        here = processors_of_quota(line.substr(0, space).c_str(), line.c_str() + space);
    } else {  // -1, or the quota
      here =
          processors_of_quota(first_line(folder + "/cpu.cfs_quota_us").c_str(), first_line(folder + "/cpu.cfs_period_us").c_str());
    }
    if (here != 0) limit = limit == 0 ? here : (std::min)(limit, here);
    const std::size_t slash = group.rfind('/');
    if (slash == std::string::npos) return limit;
    group.resize(slash);
  }
}

// The quota of the groups that a file like /proc/self/cgroup names; 0: none.
LOWBIT_COLD inline std::size_t control_group_limit(const std::string& groups, const std::string& mount) {
  std::size_t limit = 0;
  const Stream file(std::fopen(groups.c_str(), "r"));
  if (file == nullptr) return 0;
  char text[4096];
  while (std::fgets(text, sizeof text, file.get()) != nullptr) {  // "0::/group", or "4:cpu,cpuacct:/group" in version 1
    std::string line(text, std::strcspn(text, "\n"));
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    std::size_t here = 0;
    if (controllers.empty())
      here = control_group_limit(mount, group, true);
    else if (("," + controllers + ",").find(",cpu,") != std::string::npos)
      here = control_group_limit(mount + "/" + controllers, group, false);
    if (here != 0) limit = limit == 0 ? here : (std::min)(limit, here);
  }
  return limit;
}

// available_processors().
LOWBIT_COLD inline std::size_t count_processors() {
  std::size_t count = std::thread::hardware_concurrency();
#if defined(__linux__)
  // The set must have room for every processor that the kernel knows.
  for (std::size_t room = 1024; room <= std::size_t{1} << 20; room *= 2) {
    cpu_set_t* set = CPU_ALLOC(room);
    if (set == nullptr) break;
    const bool known = sched_getaffinity(0, CPU_ALLOC_SIZE(room), set) == 0;
    if (known) count = static_cast<std::size_t>(CPU_COUNT_S(CPU_ALLOC_SIZE(room), set));
    CPU_FREE(set);
    if (known) break;
  }
  if (const std::size_t limit = control_group_limit("/proc/self/cgroup", "/sys/fs/cgroup"); limit != 0)
    count = (std::min)(count, limit);
#endif
  return (std::max)(std::size_t{1}, count);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
