// SPDX-License-Identifier: MIT
// Which level runs: what the processor has, what the environment and the caller ask for, and what is refused.
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/matmul.hpp"
#include "lowbit/tensor/dense_tensor.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/io_files.hpp"

namespace dispatch_test {

using lowbit::InvalidArgument;
using lowbit::Level;
using lowbit_test::for_each_level;
using lowbit_test::unsaid;

TEST_CASE("levels have names, and names are levels", "[dispatch]") {
  std::vector<std::string> names;
  for (const Level level : lowbit::all_levels) names.emplace_back(lowbit::level_name(level));
  CHECK(names == std::vector<std::string>{"base", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx", "neon",
                                          "neon_dot", "neon_i8mm"});
  const auto available = lowbit::available_levels();
  CHECK(std::is_sorted(available.begin(), available.end()));
  CHECK(std::all_of(available.begin(), available.end(), lowbit::cpu_supports));
  CHECK(available.back() == lowbit::cpu_level());
  for (const Level level : lowbit::all_levels) {
    const bool has = std::find(available.begin(), available.end(), level) != available.end();
    if (has)
      CHECK(lowbit::level_from_name(lowbit::level_name(level)) == level);
    else
      CHECK(unsaid<InvalidArgument>([&] { lowbit::level_from_name(lowbit::level_name(level)); },
                                    {lowbit::level_name(level), "expected one of"}) == "");
  }
  for (const char* name : {"", "AVX2", "avx", "avx2 ", "sse2"})
    CHECK(unsaid<InvalidArgument>(
              [&] { lowbit::level_from_name(name); },
              {std::string("'") + name + "'", lowbit::level_name(available.front()), lowbit::level_name(available.back())}) == "");
}

TEST_CASE("a level that is set runs, one that is missing is refused and changes nothing", "[dispatch]") {
  for_each_level([](Level level) {
    CHECK(lowbit::detail::kernels().level == level);
    const float one = 1;
    const auto w = lowbit::DenseTensor<float>::quantize(&one, 1, 1);
    float y = 0;
    CHECK(lowbit::matmul(&one, 1, w, &y).level == level);
    CHECK(y == 1);
    for (const Level other : lowbit::all_levels)
      if (!lowbit::cpu_supports(other)) {
        CHECK(unsaid<InvalidArgument>([&] { lowbit::set_level(other); }, {lowbit::level_name(other)}) == "");
        CHECK(lowbit::active_level() == level);
      }
  });
}

TEST_CASE("every level of this build has all its kernels", "[dispatch]") {
  for (const Level level : lowbit::available_levels()) {
    INFO(lowbit::level_name(level));
    const lowbit::detail::Kernels* k = lowbit::detail::kernels_of(level);
    REQUIRE(k != nullptr);
    CHECK(k->level == level);
    for (const lowbit::detail::GemmKernelsOf kernels :
         {&lowbit::detail::gemm_kernels_of<false>, &lowbit::detail::gemm_kernels_of<true>}) {
      const lowbit::detail::GemmKernels* const g = kernels(level);
      REQUIRE(g != nullptr);
      for (int c = 0; c < 3; ++c) {
        CHECK(g->gemm_packed[c] != nullptr);
        CHECK(g->gemm_canonical[c] != nullptr);
      }
    }
    CHECK(k->quantize_rows != nullptr);
    CHECK(k->bf16_rows != nullptr);
    CHECK(k->find_outliers != nullptr);
    CHECK(k->transpose != nullptr);
    CHECK(k->finish_row != nullptr);
    const lowbit::detail::TransformerKernels* const t = lowbit::detail::float_kernels_of<lowbit::detail::TransformerKernels>(level);
    REQUIRE(t != nullptr);
    CHECK(t->layer_norm != nullptr);
    CHECK(t->attention != nullptr);
    CHECK(t->embed_rows != nullptr);
    const lowbit::detail::TrainingKernels* const g = lowbit::detail::float_kernels_of<lowbit::detail::TrainingKernels>(level);
    REQUIRE(g != nullptr);
    CHECK(g->gelu != nullptr);
    CHECK(g->exp2 != nullptr);
    CHECK(g->decode_codes != nullptr);
    CHECK(g->add_rows != nullptr);
    CHECK(g->layer_norm_backward != nullptr);
    CHECK(g->attention_backward != nullptr);
    CHECK(g->gelu_backward != nullptr);
    CHECK(g->cross_entropy != nullptr);
    CHECK(g->adamw != nullptr);
    CHECK(k->native_bf16 == (level == Level::avx512bf16 || level == Level::amx || level == Level::neon_i8mm));
    CHECK(k->tiles == (level == Level::amx));
  }
}

#if LOWBIT_ARM64 && defined(__linux__)
TEST_CASE("the processor's levels are what the kernel reports of it", "[dispatch]") {
  std::ifstream info("/proc/cpuinfo");
  std::string line, features;
  while (features.empty() && std::getline(info, line))
    if (line.starts_with("Features")) features = line + " ";
  // An emulator of user programs shows the file of its host.
  if (features.empty()) {
    WARN("no list of features to compare with");
    return;
  }
  const auto has = [&](const char* name) { return features.find(" " + std::string(name) + " ") != features.npos; };
  CHECK(lowbit::cpu_supports(Level::neon_dot) == has("asimddp"));
  CHECK(lowbit::cpu_supports(Level::neon_i8mm) == (has("asimddp") && has("i8mm") && has("bf16")));
}
#endif

#if defined(__linux__) && LOWBIT_X86

TEST_CASE("the processor's levels are what the kernel reports of it", "[dispatch]") {
#if defined(LOWBIT_PORTABLE)
  for (const Level level : lowbit::all_levels) CHECK(lowbit::cpu_supports(level) == (level == Level::base));
#else
  std::ifstream info("/proc/cpuinfo");
  std::string line, flags, vendor;
  while (flags.empty() && std::getline(info, line))
    if (line.starts_with("flags"))
      flags = line + " ";
    else if (line.starts_with("vendor_id"))
      vendor = line;
  REQUIRE_FALSE(flags.empty());
  const auto has = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(),
                       [&](const char* n) { return flags.find(" " + std::string(n) + " ") != flags.npos; });
  };
  std::vector<Level> want = {Level::base};
  const bool avx2 = has({"avx", "avx2", "fma", "f16c"});
  const bool avx512 = avx2 && has({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"});
  const bool avx512vnni = avx512 && has({"avx512_vnni"});
  if (avx2) want.push_back(Level::avx2);
  if (avx2 && has({"avx_vnni"})) want.push_back(Level::avxvnni);
  if (avx512) want.push_back(Level::avx512);
  if (avx512vnni) want.push_back(Level::avx512vnni);
  if (avx512vnni && has({"avx512_bf16", "avx512vbmi"})) want.push_back(Level::avx512bf16);
  if (want.back() == Level::avx512bf16 && has({"amx_tile", "amx_int8", "amx_bf16"}) && lowbit::cpu_supports(Level::amx))
    want.push_back(Level::amx);  // the system may refuse it
#if defined(LOWBIT_TILE_MODEL)
  if (avx2) want.push_back(Level::amx);
#endif
  std::vector<Level> found;
  std::copy_if(lowbit::all_levels.begin(), lowbit::all_levels.end(), std::back_inserter(found), lowbit::cpu_supports);
  CHECK(found == want);
  CHECK(lowbit::cpu_level() == want.back());
  CHECK(lowbit::cpu_has_fast_bf16() == (lowbit::cpu_supports(Level::avx512bf16) && vendor.find("GenuineIntel") == vendor.npos));
  // What is available is that, from the level on that the compiler's flags guarantee.
  std::erase_if(want, [](Level l) { return l < lowbit::all_levels[static_cast<std::size_t>(LOWBIT_BASELINE)]; });
  CHECK(lowbit::available_levels() == want);
#endif
}

// What the next test starts this program for: says the level, or the error.
TEST_CASE("print the level", "[.print-level]") {
  try {
    std::cout << "level=" << lowbit::level_name(lowbit::active_level()) << ";\n";
  } catch (const InvalidArgument& error) {
    std::cout << "refused=" << error.what() << ";\n";
    // Asked again, it is refused again.
    CHECK_THROWS_AS(lowbit::active_level(), InvalidArgument);
  }
}

TEST_CASE("LOWBIT_ISA in the environment chooses the level", "[dispatch]") {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto run = [&](const std::string& environment) {
    const std::string command = "env " + environment + " '" + self + "' '[print-level]' 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::string output;
    std::array<char, 256> chunk{};
    while (std::fgets(chunk.data(), static_cast<int>(chunk.size()), pipe) != nullptr) output += chunk.data();
    CHECK(pclose(pipe) == 0);
    return output;
  };
  const auto levels = lowbit::available_levels();
  for (const Level level : levels) {
    const std::string name = lowbit::level_name(level);
    CHECK(run("LOWBIT_ISA=" + name).find("level=" + name + ";") != std::string::npos);
  }
  const std::string best = std::string("level=") + lowbit::level_name(levels.back()) + ";";
  CHECK(run("-u LOWBIT_ISA").find(best) != std::string::npos);
  CHECK(run("LOWBIT_ISA=").find(best) != std::string::npos);
  const std::string refused = run("LOWBIT_ISA=avx1024");
  CHECK(refused.find("refused=") != std::string::npos);
  CHECK(refused.find("'avx1024'") != std::string::npos);
  CHECK(refused.find(lowbit::level_name(levels.front())) != std::string::npos);
}

#endif

}  // namespace dispatch_test
