// SPDX-License-Identifier: MIT
// The command verify: two checkpoints, tensor by tensor, with the first difference of each.
#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "examples/common/interrupt.hpp"
#include "examples/quantize/commands.hpp"
#include "examples/quantize/decoded.hpp"
#include "lowbit/io/residency.hpp"
#include "lowbit/tensor/error_statistics.hpp"

namespace quantize {

namespace {

namespace io = lowbit::io;
using io::TensorView;

// An element as text; of a quant_state all of it.
std::string element_text(const TensorView& t, std::size_t i) {
  const std::size_t size = io::dtype_bits(t.dtype) / 8;
  if (t.name.find(".quant_state.") != t.name.npos)
    return io::in_quotes({reinterpret_cast<const char*>(t.data.data()), t.data.size()});
  if (size == 0) return "other bits";
  TensorView one;
  one.name = t.name;
  one.file = t.file;
  one.dtype = t.dtype;
  one.shape = {1};
  one.data = t.data.subspan(i * size, size);
  if (t.dtype == io::DType::F32 || t.dtype == io::DType::F16 || t.dtype == io::DType::BF16 || t.dtype == io::DType::F64) {
    float value = 0;
    io::read_floats(one, {&value, 1});
    return fmt::format("{:.9g}", value);
  }
  std::string hex = "0x";
  for (std::size_t b = size; b-- > 0;) hex += fmt::format("{:02x}", static_cast<unsigned>(one.data[b]));
  return hex;
}

// What differs between two tensors of a name; empty if nothing does.
std::string difference(const TensorView& a, const TensorView& b) {
  if (a.dtype != b.dtype || a.shape != b.shape)
    return fmt::format("{} {} against {} {}", io::dtype_name(a.dtype), io::shape_string(a.shape), io::dtype_name(b.dtype),
                       io::shape_string(b.shape));
  const auto [x, y] = std::mismatch(a.data.begin(), a.data.end(), b.data.begin());
  if (x == a.data.end()) return {};
  static_cast<void>(y);
  const std::size_t size = std::max<std::size_t>(1, io::dtype_bits(a.dtype) / 8);
  std::size_t differ = 0;
  for (std::size_t i = 0; i < a.data.size(); i += size)
    differ += std::memcmp(a.data.data() + i, b.data.data() + i, std::min(size, a.data.size() - i)) != 0;
  const std::size_t first = static_cast<std::size_t>(x - a.data.begin()) / size;
  return fmt::format("{} of {} elements, the first at {}: {} against {}", differ, a.data.size() / size, first,
                     element_text(a, first), element_text(b, first));
}

std::map<std::string, io::StoredWeight> by_name(const ModelFolder& model) {
  std::map<std::string, io::StoredWeight> all;
  for (io::StoredWeight& w : io::stored_weights(model.files)) {
    std::string name = w.name;
    all.emplace(std::move(name), std::move(w));
  }
  return all;
}

}  // namespace

int verify(const Options& o) {
  const ModelFolder a = ModelFolder::open(o.in), b = ModelFolder::open(o.out);
  const auto weights_a = by_name(a), weights_b = by_name(b);
  std::set<std::string> names;
  for (const auto& [name, weight] : weights_a) names.insert(name);
  for (const auto& [name, weight] : weights_b) names.insert(name);
  std::string text;
  io::Json json = {{"a", a.files.location()}, {"b", b.files.location()}, {"differences", io::Json::array()}};
  std::size_t same = 0, different = 0;
  const auto tell = [&](const std::string& tensor, const std::string& what) {
    ++different;
    text += tensor + ": " + what + "\n";
    json["differences"].push_back({{"tensor", tensor}, {"what", what}});
  };
  for (const std::string& name : names) {
    if (examples::interrupted()) throw Interrupted{};
    const auto in_a = weights_a.find(name), in_b = weights_b.find(name);
    if (in_a == weights_a.end() || in_b == weights_b.end()) {
      tell(name, in_a == weights_a.end() ? "only in B" : "only in A");
      continue;
    }
    const io::StoredWeight &wa = in_a->second, &wb = in_b->second;
    if (wa.kind == wb.kind && wa.parts == wb.parts) {
      for (const std::string& part : wa.parts) {
        const TensorView &ta = a.files.at(part), &tb = b.files.at(part);
        if (const std::string what = difference(ta, tb); !what.empty())
          tell(part, what);
        else
          ++same;
        io::release_pages(ta.data);
        io::release_pages(tb.data);
      }
      continue;
    }
    const Description da = describe(a, wa), db = describe(b, wb);
    std::string what = fmt::format("{} against {}", da.format, db.format);
    const std::optional<Decoded> va = decode(a, wa), vb = decode(b, wb);
    if (va && vb && va->shape == vb->shape) {
      const auto e = lowbit::error_statistics(va->values.data(), vb->values.data(), va->values.size());
      what += fmt::format("; decoded: largest difference {:.4g}, rms {:.4g}, {:.2f} dB", e.max, e.rms, e.snr_db);
    } else if (va && vb) {
      what += fmt::format("; decoded: {} against {}", io::shape_string(va->shape), io::shape_string(vb->shape));
    }
    tell(name, what);
  }
  json["same"] = same;
  json["different"] = different;
  text += fmt::format("{} tensors are the same, {} differ\n", same, different);
  say(o.json ? json.dump(2, ' ', false, io::Json::error_handler_t::replace) + "\n" : text);
  return different == 0 ? 0 : exit_differs;
}

}  // namespace quantize
