// SPDX-License-Identifier: MIT
// One program of files for several processors: a file is called only where the processor runs it.  This one catches what each throws.
#include <lowbit/base/error.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "side.hpp"

extern "C" {
#define SIDE(name)                                \
  Report check_##name(void (*fail)(const char*)); \
  void throw_##name();
#include "sides.hpp"
#undef SIDE
}

namespace {

bool failed = false;

#if defined(__x86_64__)
bool runs(const char* needs) {
  __builtin_cpu_init();
  if (std::strcmp(needs, "v2") == 0) return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  if (std::strcmp(needs, "v3") == 0)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  if (std::strcmp(needs, "v4") == 0) return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (std::strcmp(needs, "native") == 0 || std::strcmp(needs, "avxvnni") == 0) return std::getenv("NOT_NATIVE") == nullptr;
  return true;
}
#elif defined(__aarch64__)
bool runs(const char* needs) {
  const unsigned long has = getauxval(AT_HWCAP);
  if (std::strcmp(needs, "lse") == 0) return (has & HWCAP_ATOMICS) && (has & HWCAP_CRC32) && (has & HWCAP_ASIMDRDM);
  if (std::strcmp(needs, "sha3") == 0) return (has & HWCAP_SHA3) && (has & HWCAP_ATOMICS);
  if (std::strcmp(needs, "dot") == 0) return (has & HWCAP_ASIMDDP) != 0;
  if (std::strcmp(needs, "sve") == 0) return (has & HWCAP_SVE) != 0;
  return true;
}
#else
bool runs(const char*) { return true; }
#endif

void fail(const char* message) {
  std::printf("  handler: %s\n", message);
  std::exit(failed ? 1 : 0);
}

void ask(const char* name, Report (*check)(void (*)(const char*)), void (*raise)()) {
  if (!runs(name)) {
    std::printf("%-9s not on this processor\n", name);
    return;
  }
  const Report r = check(&fail);
  bool caught = true;
  if (std::strcmp(name, "noexcept") != 0) {
    caught = false;
    try {
      raise();
    } catch (const lowbit::Error&) {
      caught = true;
    }
  }
  const bool ok = r.wrong == 0 && r.caught && caught;
  std::printf("%-9s level %d, %d wrong, errors %s%s\n", name, r.level, r.wrong, r.caught && caught ? "caught" : "LOST",
              ok ? "" : "  FAILED");
  failed = failed || !ok;
}

}  // namespace

int main() {
#define SIDE(name) ask(#name, &check_##name, &throw_##name);
#include "sides.hpp"
#undef SIDE
  std::printf("the file without exceptions fails:\n");
  throw_noexcept();  // ends in fail()
  return 1;
}
