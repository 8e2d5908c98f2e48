// SPDX-License-Identifier: MIT
#include "peers.hpp"

#include <memory>

#include <Eigen/Core>

namespace bench::eigen {

std::string version() {
  return std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
         std::to_string(EIGEN_MINOR_VERSION);
}

Contender product(const Operands& o) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Vector = Eigen::VectorXf;
  Contender c;
  if (o.problem.threads != 1) return c;
  c.operations = o.problem.operations();
  const auto m = static_cast<Eigen::Index>(o.problem.m), n = static_cast<Eigen::Index>(o.problem.n),
             k = static_cast<Eigen::Index>(o.problem.k);
  c.bytes = static_cast<double>(n * k) * sizeof(float);
  const auto copies = std::make_shared<std::vector<Matrix>>(copies_of(o.problem, static_cast<std::size_t>(n * k) * sizeof(float)),
                                                            Eigen::Map<const Matrix>(o.w, n, k));
  c.lap = copies->size();
  if (m == 1)
    c.ways.push_back({"vector", [=](std::size_t i) {
                        Eigen::Map<Vector>(o.y, n).noalias() = (*copies)[i % copies->size()] * Eigen::Map<const Vector>(o.x, k);
                      }});
  else
    c.ways.push_back({"matrix", [=](std::size_t i) {
                        Eigen::Map<Matrix>(o.y, m, n).noalias() =
                            Eigen::Map<const Matrix>(o.x, m, k) * (*copies)[i % copies->size()].transpose();
                      }});
  return c;
}

}  // namespace bench::eigen
