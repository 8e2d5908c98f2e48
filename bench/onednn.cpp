// SPDX-License-Identifier: MIT
// oneDNN 2.6 or 3.x: matmul and inner_product, whichever is faster.
#include "peers.hpp"

#if BENCH_ONEDNN
#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <tuple>
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

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

struct Description {
  memory::dims x, w, y;
  Kind x_kind, w_kind;
  bool scaled;
};

// `output`: which dimension of the weights is y's columns.
dnnl::primitive_attr attributes(const Description& d, [[maybe_unused]] const float* scales, [[maybe_unused]] int output) {
  dnnl::primitive_attr a;
#if DNNL_VERSION_MAJOR >= 3
  if (d.scaled) a.set_scales_mask(DNNL_ARG_WEIGHTS, 1 << output);
#else
  if (d.scaled) a.set_output_scales(1 << 1, std::vector<float>(scales, scales + d.y[1]));
#endif
  return a;
}

// w (k, n), as `layout` or however it likes.
dnnl::matmul::primitive_desc matmul(const Description& d, const dnnl::primitive_attr& a, const memory::desc* layout = nullptr) {
  const memory::desc x(d.x, d.x_kind, Layout::ab), any({d.w[1], d.w[0]}, d.w_kind, Layout::any), y(d.y, Kind::f32, Layout::ab);
  const memory::desc& w = layout != nullptr ? *layout : any;
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), x, w, y, a};
#else
  return {{x, w, y}, a, cpu()};
#endif
}
// w (n, k), the same.
dnnl::inner_product_forward::primitive_desc inner_product(const Description& d, const dnnl::primitive_attr& a,
                                                          const memory::desc* layout = nullptr) {
  const memory::desc x(d.x, d.x_kind, Layout::ab), any(d.w, d.w_kind, Layout::any), y(d.y, Kind::f32, Layout::ab);
  const memory::desc& w = layout != nullptr ? *layout : any;
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), dnnl::prop_kind::forward_inference, x, w, y, a};
#else
  return {{dnnl::prop_kind::forward_inference, x, w, y}, a, cpu()};
#endif
}

void convert(const dnnl::stream& stream, memory from, memory to) {
  dnnl::reorder(from, to).execute(stream, from, to);
  dnnl::stream(stream).wait();
}

struct Product {
  dnnl::stream stream{cpu()};
  dnnl::primitive primitive;
  std::vector<std::unordered_map<int, memory>> arguments;  // one per copy of the weights

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
    convert(p->stream, memory({d.x, Kind::u8, Layout::ab}, engine, const_cast<std::uint8_t*>(o.x_codes)), x);
  else
    convert(p->stream, memory({d.x, Kind::f32, Layout::ab}, engine, const_cast<float*>(o.x)), x);
  const bool codes = d.w_kind == Kind::s8;
  memory given({w_dims, codes ? Kind::s8 : Kind::f32, plain}, engine,
               codes ? static_cast<void*>(const_cast<std::int8_t*>(o.w_codes)) : const_cast<float*>(o.w));
  const memory::desc liked = chosen.weights_desc();
  c.bytes = static_cast<double>(liked.get_size());
  c.lap = copies_of(o.problem, liked.get_size());
  for (std::size_t copy = 0; copy < c.lap; ++copy) {
    memory w(liked, engine);
    convert(p->stream, given, w);
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
  c.ways.push_back(way("matmul", matmul(d, attributes(d, o.w_scales, 1)), d, Layout::ba, o, {k, n}, c));
  c.ways.push_back(way("inner_product", inner_product(d, attributes(d, o.w_scales, 0)), d, Layout::ab, o, {n, k}, c));
  return c;
}

// One way of all layers: their weights, and a primitive for each shape and number of rows.
struct Sequence::Shared {
  using Key = std::tuple<memory::dim, memory::dim, memory::dim>;  // m, n, k
  struct Way {
    const char* label;
    bool as_matmul;
    std::vector<memory> weights = {};
    std::map<Key, dnnl::primitive> primitives = {};
  };
  struct Shape {
    memory::dim n, k;
  };
  std::vector<Shape> layers;
  std::size_t threads = 1;
  dnnl::stream stream{cpu()};
  std::vector<Way> ways = {{"matmul", true}, {"inner_product", false}};
  std::vector<float> x, y;  // what no caller gives or wants

  static Description description(memory::dim m, Shape s) { return {{m, s.k}, {s.n, s.k}, {m, s.n}, Kind::f32, Kind::f32, false}; }
  void make(Way& way, memory::dim m) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto& primitive = way.primitives[{m, layers[i].n, layers[i].k}];
      if (primitive) continue;
      const Description d = description(m, layers[i]);
      const memory::desc layout = way.weights[i].get_desc();
      primitive = way.as_matmul ? dnnl::primitive(dnnl::matmul(matmul(d, {}, &layout)))
                                : dnnl::primitive(dnnl::inner_product_forward(inner_product(d, {}, &layout)));
    }
  }
  void run(const Way& way, std::size_t i, memory::dim m, float* in, float* out) const {
    const Description d = description(m, layers[i]);
    way.primitives.at({m, layers[i].n, layers[i].k})
        .execute(stream, {{DNNL_ARG_SRC, memory({d.x, Kind::f32, Layout::ab}, cpu(), in)},
                          {DNNL_ARG_WEIGHTS, way.weights[i]},
                          {DNNL_ARG_DST, memory({d.y, Kind::f32, Layout::ab}, cpu(), out)}});
    dnnl::stream(stream).wait();
  }
};

Sequence::Sequence(const std::vector<Layer>& layers, std::size_t usual_rows, std::size_t threads)
    : shared_(std::make_shared<Shared>()) {
  set_threads(threads);
  shared_->threads = threads;
  const auto usual = static_cast<memory::dim>(usual_rows);
  for (const Layer& l : layers) {
    shared_->layers.push_back({static_cast<memory::dim>(l.n), static_cast<memory::dim>(l.k)});
    const Description d = Shared::description(usual, shared_->layers.back());
    for (Shared::Way& way : shared_->ways) {
      const memory::dims dims = way.as_matmul ? memory::dims{d.w[1], d.w[0]} : d.w;
      const memory given({dims, Kind::f32, way.as_matmul ? Layout::ba : Layout::ab}, cpu(), const_cast<float*>(l.w));
      memory w(way.as_matmul ? matmul(d, {}).weights_desc() : inner_product(d, {}).weights_desc(), cpu());
      convert(shared_->stream, given, w);
      way.weights.push_back(w);
    }
  }
}

Contender Sequence::at(std::size_t rows) const {
  Contender c;
  c.threads = shared_->threads;
  c.enter = [threads = c.threads] { set_threads(threads); };
  c.enter();
  const auto m = static_cast<memory::dim>(rows);
  std::size_t widest = 0;
  for (const Shared::Shape s : shared_->layers) {
    widest = std::max(widest, static_cast<std::size_t>(std::max(s.n, s.k)));
    c.operations += 2.0 * static_cast<double>(m * s.n * s.k);
  }
  if (shared_->x.size() < rows * widest) {
    shared_->x.assign(rows * widest, 0.5f);
    shared_->y.assign(rows * widest, 0.0f);
  }
  for (Shared::Way& way : shared_->ways) {
    shared_->make(way, m);
    c.ways.push_back({way.label, [shared = shared_, &way, m](std::size_t) {
                        for (std::size_t i = 0; i < shared->layers.size(); ++i)
                          shared->run(way, i, m, shared->x.data(), shared->y.data());
                      }});
  }
  return c;
}

void Sequence::product(std::size_t way, std::size_t layer, std::size_t m, const float* x, float* y) const {
  set_threads(shared_->threads);
  shared_->make(shared_->ways[way], static_cast<memory::dim>(m));
  shared_->run(shared_->ways[way], layer, static_cast<memory::dim>(m), const_cast<float*>(x), y);
}

#else

struct Sequence::Shared {};
Sequence::Sequence(const std::vector<Layer>&, std::size_t, std::size_t) {}
Contender Sequence::at(std::size_t) const { return {}; }
void Sequence::product(std::size_t, std::size_t, std::size_t, const float*, float*) const {}
std::string version() { return ""; }
Contender product(Type, const Operands&) { return {}; }

#endif

}  // namespace bench::onednn
