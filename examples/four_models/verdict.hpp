// SPDX-License-Identifier: MIT
// What came out of a run, in plain words: each model against the baseline, the paper's claims, and what this run recommends.
#pragma once
#include <string>
#include <vector>

#include "examples/four_models/results.hpp"

namespace examples {

// What can be said of a model's accuracy against the baseline's.
enum class Finding { noise, doubtful, real };  // doubtful: below 0.05, but not once it is divided by the number of comparisons

struct Verdict {
  std::string name;
  std::string size, speed, accuracy;  // a few words each: "3.92 times smaller"
  Finding finding = Finding::noise;
  bool worse = false;                 // in accuracy
  bool same_rows = false;             // right about the same rows
  std::string sentence;               // the whole, with its numbers
  std::vector<std::string> warnings;  // where the machine was too noisy for what is claimed
};
// Of all models but the baseline, if that ran.
std::vector<Verdict> verdicts(const Results& results);
// All of it in two or three sentences; empty without a baseline.
std::string summary_sentence(const Results& results);
// What else the machine did, if that disturbs the times.
std::vector<std::string> noise_warnings(const Results& results);

struct Claim {
  std::string section, text;  // of the paper, in our words
  std::string finding;        // ours
  enum class Outcome { holds, fails, open } outcome = Outcome::open;
};
const char* outcome_name(Claim::Outcome outcome);
// The claims about models that ran as the paper's did.
std::vector<Claim> claims(const Results& results);

struct Recommendation {
  std::string need, choice;  // "Least memory", and the model with why
};
std::vector<Recommendation> recommendations(const Results& results);

}  // namespace examples
