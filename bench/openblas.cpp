// SPDX-License-Identifier: MIT
#include "peers.hpp"

#if BENCH_OPENBLAS
#include <memory>

#include <cblas.h>
#endif

namespace bench::openblas {

#if BENCH_OPENBLAS

std::string version() {
  const std::string text = OPENBLAS_VERSION;  // " OpenBLAS 0.3.21 "
  const auto first = text.find_first_of("0123456789");
  return text.substr(first, text.find_last_not_of(' ') + 1 - first);
}
std::string core() { return openblas_get_corename(); }

Contender product(const Operands& o) {
  Contender c;
  c.threads = o.problem.threads;
  c.operations = o.problem.operations();
  const std::size_t size = o.problem.n * o.problem.k, copies = copies_of(o.problem, size * sizeof(float));
  c.bytes = static_cast<double>(size * sizeof(float));
  c.enter = [threads = c.threads] { openblas_set_num_threads(static_cast<int>(threads)); };
  c.lap = copies;
  std::vector<float> w;
  for (std::size_t i = 0; i < copies; ++i) w.insert(w.end(), o.w, o.w + size);
  const int m = static_cast<int>(o.problem.m), n = static_cast<int>(o.problem.n), k = static_cast<int>(o.problem.k);
  const auto all = std::make_shared<std::vector<float>>(std::move(w));
  c.ways.push_back({"sgemm " + core(), [=](std::size_t i) {
                      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, o.x, k, all->data() + i % copies * size, k,
                                  0, o.y, n);
                    }});
  if (m == 1)
    c.ways.push_back({"sgemv " + core(), [=](std::size_t i) {
                        cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, all->data() + i % copies * size, k, o.x, 1, 0, o.y, 1);
                      }});
  return c;
}

#else

std::string version() { return ""; }
std::string core() { return ""; }
Contender product(const Operands&) { return {}; }

#endif

}  // namespace bench::openblas
