// SPDX-License-Identifier: MIT
// Perplexity: which tokens are predicted from which others, and how sure the figure is.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace generate {

// Tokens [begin, end) of a list are read; those from `predicted` on are predicted, each from all before it in the window.
struct Window {
  std::size_t begin, end, predicted;
};
// Windows of at most `context` tokens, `stride` apart, that predict every token but the first one once.  At least two tokens of
// context; a stride above context - 1 counts as that.
inline std::vector<Window> windows_of(std::size_t tokens, std::size_t context, std::size_t stride) {
  std::vector<Window> windows;
  stride = std::min(stride, context - 1);
  for (std::size_t begin = 0, predicted = 1; predicted < tokens; begin += stride) {
    const std::size_t end = std::min(begin + context, tokens);
    windows.push_back({begin, end, predicted});
    predicted = end;
  }
  return windows;
}

// A window or row: the negative log-likelihood of its predicted tokens, in nats, and how many they are.
struct Unit {
  double nll = 0;
  std::size_t tokens = 0;
};
struct Estimate {
  double value = 0;
  std::optional<double> error;  // standard error; nothing of a single unit
};
// Sum of nll / sum of tokens over units, which count as independent: the ratio estimator's error.
inline Estimate mean_nll(std::span<const Unit> units) {
  double nll = 0, tokens = 0, squares = 0;
  for (const Unit& u : units) {
    nll += u.nll;
    tokens += static_cast<double>(u.tokens);
  }
  Estimate e{nll / tokens, std::nullopt};
  if (units.size() < 2) return e;
  for (const Unit& u : units) squares += std::pow(u.nll - e.value * static_cast<double>(u.tokens), 2);
  const auto n = static_cast<double>(units.size());
  e.error = std::sqrt(squares * n / (n - 1)) / tokens;
  return e;
}
// e^mean; the error by the derivative.
inline Estimate perplexity(std::span<const Unit> units) {
  Estimate e = mean_nll(units);
  e.value = std::exp(e.value);
  if (e.error) *e.error *= e.value;
  return e;
}

}  // namespace generate
