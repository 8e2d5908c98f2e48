// SPDX-License-Identifier: MIT
// GPT-2 in double precision, written from the architecture alone and shares no code with the library: the oracle of the model
// tests.  It can quantize weights and activations to int8 the way models trained with quantization in the loop do, and it can
// disturb every operation by as much as float arithmetic may, which tells how far a right float implementation can be off.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace lowbit_test {

class ReferenceGpt2 {
 public:
  using Values = std::vector<double>;

  std::size_t layers = 0, heads = 0, width = 0, inner = 0;
  double epsilon = 1e-5;
  // By name below "transformer."; weights of linear layers are (in, out), as GPT-2's files hold them.
  std::map<std::string, Values> parameters;
  // Inputs of the linear layers are rounded to int8 per token, scale absmax / 127.
  bool int8_activations = false;
  // The unit of rounding; 0: none.  Every operation then errs by a random share of it, in proportion to what was summed.
  double noise = 0;
  // The smallest distance, in codes, of any quantized value from a tie between two codes.
  double closest_tie = 0.5;

  // The class logits [classes], read at the last token.
  Values classify(std::span<const std::int32_t> ids) {
    const Values x = hidden(ids);
    return product(Values(x.end() - static_cast<std::ptrdiff_t>(width), x.end()), parameters.at("score.weight"));
  }
  // The next-token logits (tokens, vocab); the head is lm_head.weight, or the token embedding where there is none.
  Values language_logits(std::span<const std::int32_t> ids) {
    const auto head = parameters.find("lm_head.weight");
    return product(hidden(ids), head != parameters.end() ? head->second : parameters.at("wte.weight"));
  }

  // How far the logits of a right float implementation may be off: four times the largest change that `runs` disturbed passes make.
  // A pass is `logits` of a ReferenceGpt2&.
  template <class Pass>
  double float_bound(const Pass& logits, int runs = 3) const {
    ReferenceGpt2 exact = *this, disturbed = *this;
    disturbed.noise = std::ldexp(1.0, -24);
    const Values expected = logits(exact);
    double worst = 0;
    for (int i = 0; i < runs; ++i) {
      const Values found = logits(disturbed);
      for (std::size_t j = 0; j < found.size(); ++j) worst = std::max(worst, std::fabs(found[j] - expected[j]));
    }
    return 4 * worst;
  }

  // Rounds `count` values, `stride` apart, to 127 steps of their absmax on either side, half to even.
  void fake_quantize(double* values, std::size_t count, std::size_t stride) {
    double absmax = 0;
    for (std::size_t i = 0; i < count; ++i) absmax = std::max(absmax, std::fabs(values[i * stride]));
    if (absmax == 0) return;
    const double scale = absmax / 127;
    for (std::size_t i = 0; i < count; ++i) {
      double& v = values[i * stride];
      const double code = v / scale;
      closest_tie = std::min(closest_tie, std::fabs(code - std::floor(code) - 0.5));
      v = std::nearbyint(code) * scale;
    }
  }
  // The weights of the linear layers, per output.
  void fake_quantize_weights() {
    for (auto& [name, values] : parameters) {
      if (!name.starts_with("h.") || !name.ends_with(".weight") || name.find(".ln_") != name.npos) continue;
      const std::size_t outputs = parameters.at(name.substr(0, name.size() - 6) + "bias").size();
      for (std::size_t o = 0; o < outputs; ++o) fake_quantize(values.data() + o, values.size() / outputs, outputs);
    }
  }

 private:
  // `value` off by up to noise * size.
  double disturb(double value, double size) {
    return noise == 0 ? value : value + noise * size * std::uniform_real_distribution<double>(-1, 1)(random_);
  }

  // After the last layer norm: (tokens, width).
  Values hidden(std::span<const std::int32_t> ids) {
    const Values &wte = parameters.at("wte.weight"), &wpe = parameters.at("wpe.weight");
    Values x;
    for (std::size_t t = 0; t < ids.size(); ++t)
      for (std::size_t i = 0; i < width; ++i) {
        const double sum = wte[static_cast<std::size_t>(ids[t]) * width + i] + wpe[t * width + i];
        x.push_back(disturb(sum, std::fabs(sum)));
      }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const std::string h = "h." + std::to_string(layer) + ".";
      add(x, linear(attention(linear(normalized(x, h + "ln_1"), h + "attn.c_attn")), h + "attn.c_proj"));
      Values up = linear(normalized(x, h + "ln_2"), h + "mlp.c_fc");
      for (double& v : up) {
        const double u = std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v), y = 0.5 * v * (1 + std::tanh(u));
        v = disturb(y, 4 * std::fabs(y) * (1 + std::fabs(u)));
      }
      add(x, linear(std::move(up), h + "mlp.c_proj"));
    }
    return normalized(x, "ln_f");
  }

  void add(Values& x, const Values& change) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = disturb(x[i] + change[i], std::fabs(x[i] + change[i]));
  }

  Values normalized(const Values& x, const std::string& name) {
    const Values &gain = parameters.at(name + ".weight"), &shift = parameters.at(name + ".bias");
    const auto n = static_cast<double>(width);
    Values out(x.size());
    for (std::size_t row = 0; row < x.size(); row += width) {
      double mean = 0, variance = 0;
      for (std::size_t i = 0; i < width; ++i) mean += x[row + i] / n;
      for (std::size_t i = 0; i < width; ++i) variance += (x[row + i] - mean) * (x[row + i] - mean) / n;
      const double inverse = 1 / std::sqrt(variance + epsilon);
      for (std::size_t i = 0; i < width; ++i) {
        const double y = (x[row + i] - mean) * inverse * gain[i];
        out[row + i] = disturb(y + shift[i], 2 * std::fabs(y) + std::fabs(shift[i]) + std::fabs(mean * inverse * gain[i]));
      }
    }
    return out;
  }

  Values linear(Values x, const std::string& module) {
    const Values &w = parameters.at(module + ".weight"), &bias = parameters.at(module + ".bias");
    const std::size_t out = bias.size(), in = w.size() / out, rows = x.size() / in;
    if (int8_activations)
      for (std::size_t r = 0; r < rows; ++r) fake_quantize(x.data() + r * in, in, 1);
    Values y(rows * out), size(noise == 0 ? 0 : out);
    for (std::size_t r = 0; r < rows; ++r) {
      double* sum = y.data() + r * out;
      std::copy(bias.begin(), bias.end(), sum);
      for (std::size_t i = 0; i < in; ++i) {
        const double v = x[r * in + i];
        for (std::size_t o = 0; o < out; ++o) sum[o] += v * w[i * out + o];
      }
      if (noise == 0) continue;
      for (std::size_t o = 0; o < out; ++o) size[o] = std::fabs(bias[o]);
      for (std::size_t i = 0; i < in; ++i) {
        const double v = std::fabs(x[r * in + i]);
        for (std::size_t o = 0; o < out; ++o) size[o] += v * std::fabs(w[i * out + o]);
      }
      for (std::size_t o = 0; o < out; ++o) sum[o] = disturb(sum[o], size[o]);
    }
    return y;
  }

  // From qkv (tokens, 3 width); every token sees itself and those before it.
  Values attention(const Values& qkv) {
    const std::size_t depth = width / heads, tokens = qkv.size() / (3 * width);
    Values out(tokens * width), p(tokens);
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t t = 0; t < tokens; ++t) {
        const double* q = qkv.data() + t * 3 * width + head * depth;
        double largest = -1e300, total = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          const double* k = qkv.data() + s * 3 * width + width + head * depth;
          double score = 0, size = 0;
          for (std::size_t d = 0; d < depth; ++d) score += q[d] * k[d], size += std::fabs(q[d] * k[d]);
          const double root = std::sqrt(static_cast<double>(depth));
          p[s] = disturb(score / root, size / root);
          largest = std::max(largest, p[s]);
        }
        for (std::size_t s = 0; s <= t; ++s) total += p[s] = std::exp(p[s] - largest);
        for (std::size_t s = 0; s <= t; ++s) p[s] = disturb(p[s] / total, 4 * p[s] / total);
        for (std::size_t d = 0; d < depth; ++d) {
          double sum = 0, size = 0;
          for (std::size_t s = 0; s <= t; ++s) {
            const double v = p[s] * qkv[s * 3 * width + 2 * width + head * depth + d];
            sum += v;
            size += std::fabs(v);
          }
          out[t * width + head * depth + d] = disturb(sum, size);
        }
      }
    return out;
  }

  // x (rows, width) times w (out, width), transposed.
  Values product(const Values& x, const Values& w) {
    Values y;
    for (std::size_t r = 0; r < x.size(); r += width)
      for (std::size_t o = 0; o < w.size(); o += width) {
        double sum = 0, size = 0;
        for (std::size_t i = 0; i < width; ++i) sum += x[r + i] * w[o + i], size += std::fabs(x[r + i] * w[o + i]);
        y.push_back(disturb(sum, size));
      }
    return y;
  }

  std::mt19937_64 random_{1};
};

}  // namespace lowbit_test
