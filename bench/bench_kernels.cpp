// SPDX-License-Identifier: MIT
// bench_kernels: speed of products, beside oneDNN, OpenBLAS, Eigen and the limits of the machine.  Google Benchmark chooses and
// reports; the times are ours (measure.hpp), because ratios are what counts and need everybody to be timed in turn.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "machine.hpp"
#include "measure.hpp"
#include "peers.hpp"
#include "suite.hpp"

#if defined(__linux__)
#include <unistd.h>
#endif

namespace {

constexpr const char* help =
    "bench_kernels [OPTION...]: products of GPT-2 small's layer shapes, in lowbit and its peers, checked and then timed in turn.\n"
    "\n"
    "  --quick                  few sizes, few rounds; about a minute\n"
    "  --rounds=N               turns of every case [25]\n"
    "  --slice_ms=X             length of a turn, at least one call [1]\n"
    "  --threads=1,2            numbers of threads [1,2; 1 where there is one processor]\n"
    "  --openblas_core=NAME     OpenBLAS with the kernels of another processor, e.g. SkylakeX; its cases are openblas@NAME\n"
    "  --benchmark_filter=REGEX, --benchmark_list_tests, --benchmark_out=FILE (JSON) and others: Google Benchmark's\n"
    "\n"
    "Names are IMPL/FORMAT/COMPUTE/NxKxM/tT, for M = 1 with /cold or /hot behind; products.hpp lists the parts.  Cases of one\n"
    "NxKxM are a group and timed in turn.  Exit codes: 0 done, 1 a result was wrong, 2 wrong usage.  bench/README.md says more.\n";

struct Options {
  bench::Plan plan;
  bench::SuiteOptions suite;
  bool list = false, file = false;  // what Google Benchmark was told: to list, to write a file
};

// One benchmark: a case, and what its group's measurement found.
struct Entry {
  bench::Case what;
  bench::Measured measured;
  double operations = 0, bytes = 0;
  std::string wrong;
  bool fresh = false;  // measured, and not reported yet
};

class Run {
 public:
  explicit Run(const Options& options) : plan_(options.plan) {}

  // Registers the cases that `chosen` accepts.
  template <class Chosen>
  void add(const bench::Group& group, const Chosen& chosen) {
    std::vector<Entry> entries;
    for (const bench::Case& c : group)
      if (chosen(c)) entries.push_back({c, {}, 0, 0, "", false});
    if (entries.empty()) return;
    groups_.push_back(std::move(entries));
    const std::size_t g = groups_.size() - 1;
    for (std::size_t i = 0; i < groups_[g].size(); ++i)
      benchmark::RegisterBenchmark(groups_[g][i].what.name().c_str(),
                                   [this, g, i](benchmark::State& state) { report(groups_[g], i, state); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
  }
  bool failed() const { return failed_; }

 private:
  // The first member that is asked measures all of them.  The library asks again until it has added up its least time, with more
  // iterations each time, and gets the same answer.
  void report(std::vector<Entry>& group, std::size_t i, benchmark::State& state) {
    if (!group[i].fresh && state.max_iterations <= 1) measure(group);
    const Entry& e = group[i];
    if (!e.wrong.empty()) {
      failed_ = true;
      std::fprintf(stderr, "%s: wrong result: %s\n", e.what.name().c_str(), e.wrong.c_str());
      state.SkipWithError(("wrong result: " + e.wrong).c_str());
      return;
    }
    group[i].fresh = false;
    for (auto _ : state) state.SetIterationTime(e.measured.seconds);
    state.SetLabel(e.measured.label);
    if (e.operations != 0) state.counters["GFLOP/s"] = 1e-9 * e.operations / e.measured.seconds;
    if (e.bytes != 0) state.counters["GB/s"] = 1e-9 * e.bytes / e.measured.seconds;
    if (const double share = share_of_limit(group, e); share != 0) state.counters["share_of_limit"] = share;
  }

  void measure(std::vector<Entry>& group) {
    bench::Group cases;
    for (const Entry& e : group) cases.push_back(e.what);
    bench::forget_operands_except(cases);
    std::vector<bench::Contender> contenders;
    std::vector<const bench::Contender*> right;
    for (Entry& e : group) {
      contenders.push_back(bench::prepare(e.what));
      e.wrong = contenders.back().wrong;
    }
    std::vector<std::size_t> index;
    for (std::size_t i = 0; i < group.size(); ++i)
      if (group[i].wrong.empty()) {
        right.push_back(&contenders[i]);
        index.push_back(i);
      }
    const std::vector<bench::Measured> measured = bench::measure_in_turn(right, plan_);
    for (std::size_t i = 0; i < index.size(); ++i) group[index[i]].measured = measured[i];
    for (std::size_t i = 0; i < group.size(); ++i) {
      group[i].operations = contenders[i].operations;
      group[i].bytes = contenders[i].bytes;
      group[i].fresh = true;
    }
  }

  // Of what bounds the case: arithmetic in registers; for m = 1 reading, from DRAM if cold, else from the L2.
  static double share_of_limit(const std::vector<Entry>& group, const Entry& e) {
    if (e.what.impl == "limit") return 0;
    const bool one_row = e.what.problem.m == 1;
    const std::string limit = !one_row ? e.what.compute : e.what.problem.cold ? "dram" : "l2";
    for (const Entry& l : group)
      if (l.what.impl == "limit" && l.what.format == limit && l.what.problem.threads == e.what.problem.threads &&
          l.measured.seconds != 0)
        return one_row ? e.bytes / e.measured.seconds / (l.bytes / l.measured.seconds)
                       : e.operations / e.measured.seconds / (l.operations / l.measured.seconds);
    return 0;
  }

  bench::Plan plan_;
  std::vector<std::vector<Entry>> groups_;
  bool failed_ = false;
};

// Takes "/manual_time" off the names, which are what others look for.
class PlainNames final : public benchmark::BenchmarkReporter {
 public:
  explicit PlainNames(benchmark::BenchmarkReporter* inner) : inner_(inner) {}
  bool ReportContext(const Context& context) override {
    inner_->SetOutputStream(&GetOutputStream());
    inner_->SetErrorStream(&GetErrorStream());
    return inner_->ReportContext(context);
  }
  void ReportRuns(const std::vector<benchmark::BenchmarkReporter::Run>& runs) override {
    auto plain = runs;
    for (auto& r : plain) r.run_name.time_type.clear();
    inner_->ReportRuns(plain);
  }
  void Finalize() override { inner_->Finalize(); }

 private:
  benchmark::BenchmarkReporter* inner_;
};

// Takes our own options out of argv; false if one of them has a wrong value.
bool take_options(int& argc, char** argv, Options& o) {
  const std::size_t processors = bench::usable_processors();
  if (processors < 2) o.suite.threads = {1};
  std::vector<char*> rest = {argv[0]};
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const auto value = [&](const std::string& name) -> const char* {
      return text.rfind(name + "=", 0) == 0 ? argv[i] + name.size() + 1 : nullptr;
    };
    if (text == "--quick") {
      o.suite.quick = true;
      o.plan.rounds = std::min<std::size_t>(o.plan.rounds, 9);
    } else if (const char* rounds = value("--rounds")) {
      o.plan.rounds = std::strtoul(rounds, nullptr, 10);
    } else if (const char* slice = value("--slice_ms")) {
      o.plan.slice = 1e-3 * std::strtod(slice, nullptr);
    } else if (const char* threads = value("--threads")) {
      o.suite.threads.clear();
      std::istringstream list_of(threads);
      for (std::string t; std::getline(list_of, t, ',');) o.suite.threads.push_back(std::strtoul(t.c_str(), nullptr, 10));
    } else if (const char* core = value("--openblas_core")) {
      o.suite.openblas_core = core;
    } else {
      o.list = o.list || text == "--benchmark_list_tests" || text == "--benchmark_list_tests=true";
      o.file = o.file || text.rfind("--benchmark_out=", 0) == 0;
      rest.push_back(argv[i]);
    }
  }
  argc = static_cast<int>(rest.size());
  std::copy(rest.begin(), rest.end(), argv);
  const auto& t = o.suite.threads;
  return o.plan.rounds > 0 && o.plan.slice > 0 && !t.empty() &&
         std::all_of(t.begin(), t.end(), [](std::size_t n) { return n >= 1 && n <= 1024; });
}

// OpenBLAS chooses its kernels before main() begins.
void restart_for_openblas(const std::string& core, char** argv) {
#if defined(__linux__)
  const char* now = std::getenv("OPENBLAS_CORETYPE");
  if (core.empty() || (now != nullptr && core == now)) return;
  ::setenv("OPENBLAS_CORETYPE", core.c_str(), 1);
  ::unsetenv("OPENBLAS_L2_SIZE");
  ::execv("/proc/self/exe", argv);
  std::perror("bench_kernels: cannot start itself again");
  std::exit(1);
#else
  static_cast<void>(argv);
  if (!core.empty()) std::fprintf(stderr, "bench_kernels: --openblas_core works on Linux alone; set OPENBLAS_CORETYPE instead\n");
#endif
}

int run(int argc, char** argv) {
  const std::vector<char*> given(argv, argv + argc + 1);
  Options options;
  if (!take_options(argc, argv, options)) {
    std::fputs("bench_kernels: --rounds, --slice_ms and --threads want numbers from 1 on (--help explains)\n", stderr);
    return 2;
  }
  restart_for_openblas(options.suite.openblas_core, std::vector<char*>(given).data());
  benchmark::Initialize(&argc, argv, [] { std::fputs(help, stdout); });
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;

  // Chosen here and not by the library, whose names end in "/manual_time".
  std::string spec = benchmark::GetBenchmarkFilter();
  const bool negative = !spec.empty() && spec[0] == '-';
  if (negative) spec.erase(0, 1);
  if (spec == "all") spec.clear();
  const std::regex pattern(spec, std::regex::extended);
  const auto chosen = [&](const bench::Case& c) { return std::regex_search(c.name(), pattern) != negative && bench::exists(c); };
  const std::vector<bench::Group> groups = bench::suite(options.suite);
  if (options.list) {
    for (const bench::Group& group : groups)
      for (const bench::Case& c : group)
        if (chosen(c)) std::puts(c.name().c_str());
    return 0;
  }
  Run all(options);
  for (const bench::Group& group : groups) all.add(group, chosen);
  for (const auto& [key, value] : bench::circumstances()) benchmark::AddCustomContext(key, value);
  benchmark::JSONReporter json;
  PlainNames display(benchmark::CreateDefaultDisplayReporter()), file(&json);
  benchmark::RunSpecifiedBenchmarks(&display, options.file ? &file : nullptr, "all");
  benchmark::Shutdown();
  return all.failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_kernels: %s\n", error.what());
    return 1;
  }
}
