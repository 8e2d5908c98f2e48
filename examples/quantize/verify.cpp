// SPDX-License-Identifier: MIT
// The command verify: two checkpoints, tensor by tensor, with the first difference of each.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "examples/common/interrupt.hpp"
#include "examples/common/text.hpp"
#include "examples/quantize/commands.hpp"
#include "examples/quantize/weights.hpp"
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

// What two decoded weights differ in; empty if nothing does.
std::string difference(const Decoded& a, const Decoded& b) {
  if (a.shape != b.shape) return fmt::format("{} against {}", io::shape_string(a.shape), io::shape_string(b.shape));
  const std::size_t n = a.values.size();
  const auto differ_at = [&](std::size_t i) {
    return a.values[i] != b.values[i] && !(std::isnan(a.values[i]) && std::isnan(b.values[i]));
  };
  std::size_t first = n, differ = 0;
  for (std::size_t i = 0; i < n; ++i)
    if (differ_at(i)) {
      first = std::min(first, i);
      ++differ;
    }
  if (differ == 0) return {};
  const auto e = lowbit::error_statistics(a.values.data(), b.values.data(), n);
  return fmt::format("{} of {} elements, the first at {}: {:.9g} against {:.9g}; largest difference {:.4g}, rms {:.4g}, {:.2f} dB",
                     differ, n, first, a.values[first], b.values[first], e.max, e.rms, e.snr_db);
}

// What the command finds, for people and as JSON.
struct Findings {
  std::size_t same = 0, different = 0;
  std::string text;
  io::Json json;

  void tell(const std::string& tensor, const std::string& what) {
    ++different;
    text += examples::printable(tensor + ": " + what) + "\n";
    json["differences"].push_back({{"tensor", tensor}, {"what", what}});
  }
};

// For every name of both: reports what only one of them has.
void for_each_common(const Weights& a, const Weights& b, Findings& findings,
                     const std::function<void(const std::string&)>& compare) {
  std::set<std::string> names;
  for (const Weights* side : {&a, &b})
    for (std::string& name : side->names()) names.insert(std::move(name));
  for (const std::string& name : names) {
    if (examples::interrupted()) throw Interrupted{};
    if (!a.contains(name) || !b.contains(name)) {
      findings.tell(name, a.contains(name) ? "only in A" : "only in B");
      continue;
    }
    compare(name);
    a.release(name);
    b.release(name);
  }
}

void compare_folders(const FolderWeights& a, const FolderWeights& b, Findings& findings) {
  for_each_common(a, b, findings, [&](const std::string& name) {
    const io::StoredWeight &wa = a.stored(name), &wb = b.stored(name);
    if (wa.kind == wb.kind && wa.parts == wb.parts) {
      for (const std::string& part : wa.parts) {
        if (const std::string what = difference(a.files().at(part), b.files().at(part)); !what.empty())
          findings.tell(part, what);
        else
          ++findings.same;
      }
      return;
    }
    const Description da = a.describe(name), db = b.describe(name);
    std::string what = fmt::format("{} against {}", da.format, db.format);
    if (da.decodes && db.decodes) {
      const Decoded va = a.decode(name), vb = b.decode(name);
      if (va.shape == vb.shape) {
        const auto e = lowbit::error_statistics(va.values.data(), vb.values.data(), va.values.size());
        what += fmt::format("; decoded: largest difference {:.4g}, rms {:.4g}, {:.2f} dB", e.max, e.rms, e.snr_db);
      } else {
        what += fmt::format("; decoded: {} against {}", io::shape_string(va.shape), io::shape_string(vb.shape));
      }
    }
    findings.tell(name, what);
  });
}

void compare_decoded(const Weights& a, const Weights& b, Findings& findings) {
  for_each_common(a, b, findings, [&](const std::string& name) {
    if (const std::string what = difference(a.decode(name), b.decode(name)); !what.empty())
      findings.tell(name, fmt::format("{} against {}: {}", a.describe(name).format, b.describe(name).format, what));
    else
      ++findings.same;
  });
  for (const Weights* side : {&a, &b})
    if (const auto* folder = dynamic_cast<const FolderWeights*>(side))
      for (const std::string& name : folder->left_out()) {
        findings.text += examples::printable(name + ": not compared, as GGUF has no place for it") + "\n";
        findings.json["not_compared"].push_back(name);
      }
}

}  // namespace

int verify(const Options& o) {
  const bool as_gguf = is_gguf(o.in) || is_gguf(o.out);
  const std::unique_ptr<Weights> a = open_weights(o.in, as_gguf), b = open_weights(o.out, as_gguf);
  Findings findings;
  findings.json = {{"a", a->location()}, {"b", b->location()}, {"differences", io::Json::array()}};
  if (as_gguf)
    compare_decoded(*a, *b, findings);
  else
    compare_folders(dynamic_cast<const FolderWeights&>(*a), dynamic_cast<const FolderWeights&>(*b), findings);
  findings.json["same"] = findings.same;
  findings.json["different"] = findings.different;
  findings.text += fmt::format("{} tensors are the same, {} differ\n", findings.same, findings.different);
  say(o.json ? findings.json.dump(2, ' ', false, io::Json::error_handler_t::replace) + "\n" : findings.text);
  return findings.different == 0 ? 0 : exit_differs;
}

}  // namespace quantize
