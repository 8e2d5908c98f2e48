// SPDX-License-Identifier: MIT
// Each component brings its library: Eigen, nlohmann/json and utf8proc are there to include and to link.
#include <utf8proc.h>

#include <Eigen/Core>
#include <nlohmann/json.hpp>
#if __has_include(<lowbit/eigen.hpp>)
#include <lowbit/eigen.hpp>
#endif
#if __has_include(<lowbit/gpt2/tokenizer.hpp>)
#include <lowbit/gpt2/tokenizer.hpp>
#endif

int main() {
  const Eigen::Vector2f v(1.0f, 2.0f);
  const auto json = nlohmann::json::parse("[3]");
  return v.sum() == 3.0f && json[0] == 3 && utf8proc_category('A') == UTF8PROC_CATEGORY_LU ? 0 : 1;
}
