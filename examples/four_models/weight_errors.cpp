// SPDX-License-Identifier: MIT
#include "examples/four_models/weight_errors.hpp"

#include <array>
#include <cmath>
#include <map>

#include "examples/common/interrupt.hpp"
#include "examples/common/progress.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/lowbit.hpp"
#include "lowbit/tensor/error_statistics.hpp"

namespace examples {

std::vector<std::vector<LayerError>> weight_errors(const std::vector<const ModelKind*>& kinds,
                                                   const lowbit::gpt2::ParameterSource& source, const Checkpoints& checkpoints,
                                                   const Tuning& tuning) {
  std::map<lowbit::Format, lowbit::gpt2::FolderParameters> held;
  for (const auto& [format, folder] : checkpoints) held.emplace(format, lowbit::gpt2::FolderParameters(folder));
  std::vector<std::vector<LayerError>> errors(kinds.size());
  const lowbit::gpt2::Config& config = source.config();
  struct Layer {
    const char* name;
    std::size_t out, in;
  };
  const std::array<Layer, 4> layers = {{{"attn.c_attn", 3 * config.width, config.width},
                                        {"attn.c_proj", config.width, config.width},
                                        {"mlp.c_fc", config.inner, config.width},
                                        {"mlp.c_proj", config.width, config.inner}}};
  Progress progress("error of the weights, layers", config.layers * layers.size());
  for (std::size_t block = 0; block < config.layers; ++block)
    for (const Layer& layer : layers) {
      if (interrupted()) return std::vector<std::vector<LayerError>>(kinds.size());
      const std::string module = "h." + std::to_string(block) + "." + layer.name;
      const lowbit::Tensor exact = source.linear(module, layer.out, layer.in);
      if (exact.format() != lowbit::Format::f32) return errors;
      const auto* w = reinterpret_cast<const float*>(exact.parts().codes.data());
      std::map<lowbit::Format, double> of_format;  // the compute type changes no weight
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        const ModelKind& kind = *kinds[k];
        if (kind.format == lowbit::Format::f32 || kind.id == "int8_scratch") continue;
        if (of_format.count(kind.format) == 0) {
          const auto folder = held.find(kind.format);
          const lowbit::Tensor t = folder == held.end() ? quantize(kind, w, layer.out, layer.in, tuning)
                                                        : folder->second.linear(module, layer.out, layer.in);
          of_format[kind.format] = std::pow(10.0, -lowbit::error_statistics(w, layer.out, layer.in, t).snr_db / 20);
        }
        errors[k].push_back({module, of_format[kind.format]});
      }
      progress.step();
    }
  return errors;
}

}  // namespace examples
