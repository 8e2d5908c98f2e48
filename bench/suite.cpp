// SPDX-License-Identifier: MIT
#include "suite.hpp"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace bench {

namespace {

struct Shape {
  std::size_t n, k;
};
// GPT-2 small's linear layers.
constexpr Shape layers[] = {{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}};
constexpr std::size_t all_rows[] = {1, 2, 4, 8, 16, 32, 52, 128, 512}, quick_rows[] = {1, 8, 52};

// Format and compute type.
using Arithmetic = std::pair<const char*, const char*>;

class Builder {
 public:
  explicit Builder(const SuiteOptions& options) : options_(options) {}

  std::vector<Group> all() {
    for (const Shape s : layers)
      for (const std::size_t m : rows()) layer(s, m);
    if (!options_.quick) odd_sizes();
    return std::move(groups_);
  }

 private:
  std::vector<std::size_t> rows() const {
    if (options_.quick) return {std::begin(quick_rows), std::end(quick_rows)};
    return {std::begin(all_rows), std::end(all_rows)};
  }

  void begin(const Problem& p) {
    groups_.emplace_back();
    problem_ = p;
  }
  void add(const std::string& impl, std::initializer_list<Arithmetic> what, const std::string& epilogue = "") {
    for (const auto& [format, compute] : what) groups_.back().push_back({impl, format, compute, problem_, epilogue});
  }

  void layer(Shape s, std::size_t m) {
    const bool first = s.n == layers[0].n && s.k == layers[0].k;
    for (const bool cold : {true, false}) {
      if (cold && m != 1) continue;
      begin({s.n, s.k, m, 1, cold});
      for (const std::size_t threads : options_.threads) {
        problem_.threads = threads;
        limits();
        main_products();
      }
      problem_.threads = options_.threads.front();
      if (options_.quick || problem_.threads != 1 || cold) continue;
      if (first && (m == 1 || m == 8 || m == 52)) variants();
      forced_levels();
    }
  }

  void limits() {
    if (problem_.m > 1) add("limit", {{"f32", "registers"}, {"bf16", "registers"}, {"int8", "registers"}});
    if (problem_.m > 1 && problem_.threads > 1) add("limit", {{"line", "handover"}});
    if (!problem_.cold) add("limit", {{"f32", "nf4_tile"}, {"bf16", "nf4_tile"}, {"int8", "nf4_tile"}});
    if (problem_.m == 1 && problem_.cold) add("limit", {{"dram", "read"}});
    if (problem_.m == 1 && !problem_.cold)
      add("limit", {{"l2", "read"}, {"l3", "read"}, {"f32", "lookup"}, {"bf16", "lookup"}, {"int8", "lookup"}});
  }

  void main_products() {
    add("lowbit",
        {{"f32", "f32"}, {"f16", "f32"}, {"bf16", "bf16"}, {"int8", "int8"}, {"nf4", "f32"}, {"nf4", "bf16"}, {"nf4", "int8"}});
    if (problem_.m == 1) add("lowbit", {{"nf4_canonical", "f32"}, {"nf4_canonical", "bf16"}, {"nf4_canonical", "int8"}});
    add("onednn", {{"f32", "f32"}, {"bf16", "bf16"}, {"int8", "int8"}});
    add(options_.openblas_core.empty() ? "openblas" : "openblas@" + options_.openblas_core, {{"f32", "f32"}});
    if (problem_.threads == 1) add("eigen", {{"f32", "f32"}});
  }

  // What should be as fast as the plain case beside it.
  void variants() {
    for (const char* format : {"nf4_plain", "nf4_b32", "nf4_b128", "nf4_b4096", "fp4"})
      add("lowbit", {{format, "f32"}, {format, "bf16"}, {format, "int8"}});
    add("lowbit", {{"llm_int8", "int8"}});
    for (const char* epilogue : {"bias_gelu", "bias_residual"})
      add("lowbit", {{"f32", "f32"}, {"int8", "int8"}, {"nf4", "f32"}, {"nf4", "bf16"}, {"nf4", "int8"}}, epilogue);
  }

  void forced_levels() {
    if (problem_.m >= 32) add("lowbit@avx2", {{"f32", "f32"}, {"int8", "int8"}, {"nf4", "f32"}, {"nf4", "int8"}});
    if (problem_.m == 1 || problem_.m == 8 || problem_.m == 52)
      add("lowbit@base", {{"f32", "f32"},
                          {"f16", "f32"},
                          {"bf16", "bf16"},
                          {"int8", "int8"},
                          {"nf4", "f32"},
                          {"nf4", "bf16"},
                          {"nf4", "int8"},
                          {"fp4", "f32"}});
  }

  // A depth that is no multiple of anything, and GPT-2's vocabulary, which no panel divides; each beside a size that fits.
  void odd_sizes() {
    if (options_.threads.front() != 1) return;
    const auto beside = [&](const Problem& odd, const Problem& plain) {
      begin(odd);
      for (const Problem& p : {odd, plain}) {
        problem_ = p;
        add("lowbit", {{"f32", "f32"}, {"int8", "int8"}, {"nf4", "f32"}, {"nf4", "bf16"}, {"nf4", "int8"}});
      }
    };
    for (const std::size_t m : quick_rows) beside({2304, 100, m, 1, false}, {2304, 128, m, 1, false});
    for (const std::size_t m : {std::size_t{1}, std::size_t{8}}) beside({50257, 768, m, 1, m == 1}, {50304, 768, m, 1, m == 1});
  }

  SuiteOptions options_;
  Problem problem_;
  std::vector<Group> groups_;
};

}  // namespace

std::vector<Group> suite(const SuiteOptions& options) { return Builder(options).all(); }

}  // namespace bench
