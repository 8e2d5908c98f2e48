// SPDX-License-Identifier: MIT
// oneDNN 2.6 or 3.x: matmul and inner_product, whichever is faster.
#include "peers.hpp"

#if BENCH_ONEDNN
#include <dlfcn.h>

#include <memory>
#include <unordered_map>

#include <dnnl.hpp>
#endif

namespace bench::onednn {

#if BENCH_ONEDNN

namespace {

using dnnl::memory;
using Kind = memory::data_type;
using Layout = memory::format_tag;

// Of the OpenMP library that oneDNN brought along, which need not be the compiler's.
void set_threads(std::size_t threads) {
  using Set = void (*)(int);
  static const auto set = reinterpret_cast<Set>(::dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set != nullptr) set(static_cast<int>(threads));
}

struct Description {
  memory::dims x, w, y;
  Kind x_kind, w_kind;
  bool scaled;
};

dnnl::primitive_attr attributes(const Description& d, [[maybe_unused]] const float* scales) {
  dnnl::primitive_attr a;
#if DNNL_VERSION_MAJOR >= 3
  if (d.scaled) a.set_scales_mask(DNNL_ARG_WEIGHTS, 1 << (d.w.size() - 1));
#else
  if (d.scaled) a.set_output_scales(1 << 1, std::vector<float>(scales, scales + d.y[1]));
#endif
  return a;
}

// x (m, k), w (k, n).
dnnl::matmul::primitive_desc matmul(const Description& d, const dnnl::primitive_attr& a, const dnnl::engine& engine) {
  const memory::desc x(d.x, d.x_kind, Layout::ab), w({d.w[1], d.w[0]}, d.w_kind, Layout::any), y(d.y, Kind::f32, Layout::ab);
#if DNNL_VERSION_MAJOR >= 3
  return {engine, x, w, y, a};
#else
  return {{x, w, y}, a, engine};
#endif
}
// x (m, k), w (n, k).
dnnl::inner_product_forward::primitive_desc inner_product(const Description& d, const dnnl::primitive_attr& a,
                                                          const dnnl::engine& engine) {
  const memory::desc x(d.x, d.x_kind, Layout::ab), w(d.w, d.w_kind, Layout::any), y(d.y, Kind::f32, Layout::ab);
#if DNNL_VERSION_MAJOR >= 3
  return {engine, dnnl::prop_kind::forward_inference, x, w, y, a};
#else
  return {{dnnl::prop_kind::forward_inference, x, w, y}, a, engine};
#endif
}

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

struct Product {
  dnnl::stream stream{cpu()};
  dnnl::primitive primitive;
  std::vector<std::unordered_map<int, memory>> arguments;  // one per copy of the weights

  void convert(memory from, memory to) {
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }
  void call(std::size_t i) {
    primitive.execute(stream, arguments[i % arguments.size()]);
    stream.wait();
  }
};

// `plain`: the layout of the weights as they come.
template <class Chosen>
Way way(const char* label, const Chosen& chosen, const Description& d, Layout plain, const Operands& o, const memory::dims& w_dims,
        Contender& c) {
  auto p = std::make_shared<Product>();
  p->primitive = dnnl::primitive(chosen);
  const dnnl::engine& engine = cpu();
  memory x({d.x, d.x_kind, Layout::ab}, engine), y({d.y, Kind::f32, Layout::ab}, engine, o.y);
  if (d.x_kind == Kind::u8)
    p->convert(memory({d.x, Kind::u8, Layout::ab}, engine, const_cast<std::uint8_t*>(o.x_codes)), x);
  else
    p->convert(memory({d.x, Kind::f32, Layout::ab}, engine, const_cast<float*>(o.x)), x);
  const bool codes = d.w_kind == Kind::s8;
  memory given({w_dims, codes ? Kind::s8 : Kind::f32, plain}, engine,
               codes ? static_cast<void*>(const_cast<std::int8_t*>(o.w_codes)) : const_cast<float*>(o.w));
  const memory::desc liked = chosen.weights_desc();
  c.bytes = static_cast<double>(liked.get_size());
  c.lap = copies_of(o.problem, liked.get_size());
  for (std::size_t copy = 0; copy < c.lap; ++copy) {
    memory w(liked, engine);
    p->convert(given, w);
    p->arguments.push_back({{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
#if DNNL_VERSION_MAJOR >= 3
    if (d.scaled)
      p->arguments.back().emplace(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS,
                                  memory({{d.y[1]}, Kind::f32, Layout::a}, engine, const_cast<float*>(o.w_scales)));
#endif
  }
  return {label, [p](std::size_t i) { p->call(i); }};
}

}  // namespace

std::string version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

Contender product(Type type, const Operands& o) {
  const auto m = static_cast<memory::dim>(o.problem.m), n = static_cast<memory::dim>(o.problem.n),
             k = static_cast<memory::dim>(o.problem.k);
  Description d{{m, k}, {n, k}, {m, n}, Kind::f32, Kind::f32, type == Type::u8s8};
  if (type == Type::bf16) d.x_kind = d.w_kind = Kind::bf16;
  if (type == Type::u8s8) d.x_kind = Kind::u8, d.w_kind = Kind::s8;
  Contender c;
  c.threads = o.problem.threads;
  c.operations = o.problem.operations();
  c.enter = [threads = c.threads] { set_threads(threads); };
  c.enter();  // a primitive is made for as many threads as there are
  const dnnl::primitive_attr a = attributes(d, o.w_scales);
  c.ways.push_back(way("matmul", matmul(d, a, cpu()), d, Layout::ba, o, {k, n}, c));
  c.ways.push_back(way("inner_product", inner_product(d, a, cpu()), d, Layout::ab, o, {n, k}, c));
  return c;
}

#else

std::string version() { return ""; }
Contender product(Type, const Operands&) { return {}; }

#endif

}  // namespace bench::onednn
