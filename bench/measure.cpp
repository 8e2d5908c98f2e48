// SPDX-License-Identifier: MIT
#include "measure.hpp"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <map>
#include <numeric>
#include <random>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sys/resource.h>
#endif

namespace bench {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Thread pools keep their threads awake for a while after the last task (OpenBLAS: 20 ms), where they would take the processor
// from whoever is next.  Waits until nobody in this process works.
void wait_for_quiet() {
  using namespace std::chrono_literals;
  for (int i = 0; i < 400; ++i) {
    const std::clock_t used = std::clock();
    const auto start = Clock::now();
    std::this_thread::sleep_for(200us);
    if (static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC < 0.25 * seconds_since(start)) return;
  }
}

constexpr double longest_lap = 5e-3, awake_after = 5e-4;  // seconds

struct Runner {
  std::size_t contender;
  const Contender* owner;
  const Way* way;
  std::size_t repeats = 1, calls = 0;
  std::vector<double> times = {};
  double shortest = 1e9;  // seconds of a call so far

  void call() { way->call(calls++); }
  // A lap to come back into the caches (weights that are cold by design: to have their page tables back) and to wake the threads,
  // then the timed calls.  These are taken again where the system let somebody else run in between, which would say nothing
  // about us.
  double turn(double retake) {
    owner->enter();
    const auto arrival = Clock::now();
    for (std::size_t i = 0; i < owner->lap && (i == 0 || seconds_since(arrival) < longest_lap); ++i) call();
    // Some pools wait for all threads before they begin, others begin without those that still wake up: nobody is timed before all
    // are.
    while (owner->threads > 1 && seconds_since(arrival) < awake_after) call();
    double seconds = 0;
    for (int tries = 0; tries < 8; ++tries) {
      const long before = interruptions();
      const auto start = Clock::now();
      for (std::size_t i = 0; i < repeats; ++i) call();
      seconds = seconds_since(start) / static_cast<double>(repeats);
      shortest = std::min(shortest, seconds);
      if (interruptions() == before || shortest * static_cast<double>(repeats) > retake) break;
    }
    if (owner->threads > 1) wait_for_quiet();
    return seconds;
  }
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The rounds in which the contenders of `threads` as a whole were fastest, half of all; every maker has one vote, limits have none.
// Where others use the other half of a core or the clock, everybody is slower by up to a half for a second or so: medians over all
// rounds would then compare a contender's fast rounds with another's slow ones.
std::vector<std::size_t> quiet_rounds(const std::vector<Runner>& runners, std::size_t threads) {
  std::vector<const Runner*> alike;
  std::vector<double> usual;
  for (const Runner& r : runners)
    if (r.owner->threads == threads && r.owner->maker != "limit") {
      alike.push_back(&r);
      usual.push_back(median(r.times));
    }
  const std::size_t count = runners.front().times.size();
  std::vector<double> pace(count);
  for (std::size_t round = 0; round < count; ++round) {
    std::map<std::string, std::vector<double>> shares;  // by maker
    for (std::size_t i = 0; i < alike.size(); ++i) shares[alike[i]->owner->maker].push_back(alike[i]->times[round] / usual[i]);
    std::vector<double> votes;
    for (auto& [maker, of_maker] : shares) votes.push_back(median(std::move(of_maker)));
    if (!votes.empty()) pace[round] = median(std::move(votes));
  }
  std::vector<std::size_t> rounds(count);
  std::iota(rounds.begin(), rounds.end(), std::size_t{0});
  std::sort(rounds.begin(), rounds.end(), [&](std::size_t a, std::size_t b) { return pace[a] < pace[b]; });
  rounds.resize((count + 1) / 2);
  return rounds;
}

}  // namespace

long interruptions() {
#if defined(__linux__)
  ::rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
#else
  return 0;
#endif
}

std::vector<Measured> measure_in_turn(const std::vector<const Contender*>& contenders, const Plan& plan) {
  std::vector<Runner> runners;
  for (std::size_t c = 0; c < contenders.size(); ++c)
    for (const Way& way : contenders[c]->ways) runners.push_back({c, contenders[c], &way});
  for (Runner& r : runners) {
    const double slice = r.owner->lap > 1 ? 3 * plan.slice : plan.slice;
    double once = r.turn(plan.retake);
    while (once * static_cast<double>(r.repeats) < slice / 4) r.repeats *= 2, once = r.turn(plan.retake);
    r.repeats = std::max<std::size_t>(1, static_cast<std::size_t>(slice / once + 0.5));
  }
  std::mt19937 order(1);  // another order in every round: nobody always follows the same neighbour
  const auto start = Clock::now();
  for (std::size_t round = 0; round < plan.rounds && (round < 7 || seconds_since(start) < plan.group_seconds); ++round) {
    std::shuffle(runners.begin(), runners.end(), order);
    for (Runner& r : runners) r.times.push_back(r.turn(plan.retake));
  }
  std::vector<Measured> results(contenders.size());
  std::map<std::size_t, std::vector<std::size_t>> quiet;  // by number of threads
  for (const Runner& r : runners) {
    const auto [rounds, fresh] = quiet.try_emplace(r.owner->threads);
    if (fresh) rounds->second = quiet_rounds(runners, r.owner->threads);
    std::vector<double> times;
    for (const std::size_t round : rounds->second) times.push_back(r.times[round]);
    const double t = median(std::move(times));
    Measured& best = results[r.contender];
    if (best.seconds == 0 || t < best.seconds) best = {t, r.way->label};
  }
  return results;
}

}  // namespace bench
