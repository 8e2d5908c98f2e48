// SPDX-License-Identifier: MIT
#include "examples/quantize/calibration.hpp"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <string_view>

#include "examples/common/inputs.hpp"
#include "examples/common/interrupt.hpp"
#include "examples/common/model_walk.hpp"
#include "examples/common/progress.hpp"
#include "examples/quantize/commands.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/lowbit.hpp"

namespace quantize {

const std::vector<float>& Calibration::of(const std::string& weight) const {
  static const std::vector<float> none;
  const std::string_view end = ".weight", block = "h.";
  if (!weight.ends_with(end)) return none;
  for (std::size_t at = weight.find(block); at != weight.npos; at = weight.find(block, at + 1)) {
    const auto found = moments.find(weight.substr(at, weight.size() - at - end.size()));
    if (found != moments.end() && (at == 0 || weight[at - 1] == '.')) return found->second;
  }
  return none;
}

Calibration calibrate(const std::filesystem::path& folder, const std::filesystem::path& text, std::size_t rows,
                      lowbit::Executor& executor) {
  using Dense = lowbit::DenseTensor<float>;
  constexpr std::array modules{"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"};
  const std::string lines = examples::read_plain_text(text);
  const auto tokenizer = lowbit::gpt2::Tokenizer::load(folder);
  lowbit::gpt2::ModelOptions<Dense> exact;
  exact.linear.compute = lowbit::Compute::f32;
  const lowbit::gpt2::Model<Dense> model = lowbit::gpt2::Model<Dense>::load(folder, exact);
  tokenizer.require_fits(model.config.vocab, folder.string());
  std::vector<std::vector<double>> sums(model.blocks.size() * modules.size());
  Calibration result;
  result.positions = model.config.positions;
  examples::Progress progress("calibrating, rows", rows);
  for (std::string_view rest = lines; !rest.empty() && result.rows < rows;) {
    if (examples::interrupted()) throw Interrupted{};
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    std::vector<std::int32_t> ids = tokenizer.encode(line.substr(0, line.find_last_not_of('\r') + 1));
    if (ids.size() > model.config.positions) {
      ids.resize(model.config.positions);
      ++result.cut_rows;
    }
    if (ids.empty()) continue;
    examples::ModelWalk walk(model, ids.size(), executor);
    std::size_t layer = 0;
    walk.before_product = [&](const lowbit::Linear&, lowbit::MatrixView<const float> x) {
      std::vector<double>& of_layer = sums[layer++];
      of_layer.resize(x.cols);
      for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t c = 0; c < x.cols; ++c) of_layer[c] += static_cast<double>(x.row(r)[c]) * static_cast<double>(x.row(r)[c]);
    };
    walk.run(ids, false);
    ++result.rows;
    result.tokens += ids.size();
    progress.step();
  }
  if (result.rows == 0) lowbit::raise<lowbit::FormatError>(text.string() + ": expected lines of text, found none");
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const std::string module = "h." + std::to_string(i / modules.size()) + "." + modules[i % modules.size()];
    std::vector<float>& of_layer = result.moments[module];
    for (const double sum : sums[i]) {
      if (!std::isfinite(sum))
        lowbit::raise<lowbit::FormatError>(folder.string() + ": " + module + ": expected finite inputs on " + text.string() +
                                           ", found NaN or infinity; a parameter before it may hold one");
      of_layer.push_back(static_cast<float>((std::min)(sum / static_cast<double>(result.tokens), double{FLT_MAX})));
    }
  }
  return result;
}

}  // namespace quantize
