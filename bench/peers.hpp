// SPDX-License-Identifier: MIT
// Other libraries' products as contenders.  A peer that the build did not find has no way, and an empty version.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "contender.hpp"

namespace bench {

// What a peer multiplies, and where its result goes.  f32: x and w.  bf16: the same, rounded.  u8s8: the codes, y = x_codes
// w_codes^T times the scale of w's row.
struct Operands {
  Problem problem;
  const float* x = nullptr;
  const float* w = nullptr;
  const std::uint8_t* x_codes = nullptr;
  const std::int8_t* w_codes = nullptr;
  const float* w_scales = nullptr;
  float* y = nullptr;
};

namespace onednn {
std::string version();
enum class Type { f32, bf16, u8s8 };
// Weights in the layout that it likes best and activations in the right type, both before the time starts.  Does not check.
Contender product(Type type, const Operands& o);

// The f32 products of a model's linear layers, one after the other, each on weights of its own in the layout that it likes best at
// `usual_rows` rows.
class Sequence {
 public:
  struct Layer {
    std::size_t n = 0, k = 0;
    const float* w = nullptr;  // copied
  };
  Sequence(const std::vector<Layer>& layers, std::size_t usual_rows, std::size_t threads);
  // All of them on m rows; what each makes is overwritten by the next of its shape.
  Contender at(std::size_t m) const;
  // y (m, n) of a layer, x (m, k): for checks.
  void product(std::size_t way, std::size_t layer, std::size_t m, const float* x, float* y) const;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};
}  // namespace onednn

namespace openblas {
std::string version();
std::string core();  // the processor that its kernels are for
Contender product(const Operands& o);
}  // namespace openblas

namespace eigen {
std::string version();
// One thread.  Compiled for this very machine: Eigen chooses its instructions when it is compiled.
Contender product(const Operands& o);
}  // namespace eigen

}  // namespace bench
