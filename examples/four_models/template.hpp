// SPDX-License-Identifier: MIT
// A page from a template: {{name}} stands for a value, {{#name}} ... {{/name}} for a part that is left out where the value is empty.
// The two marks of mustache templates that the report needs.
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "lowbit/base/error.hpp"

namespace examples {

using TemplateValues = std::map<std::string, std::string, std::less<>>;

// Values go in as they are: who makes them escapes what came from elsewhere.  Throws FormatError that names the mark if one has no
// value or no end.
inline std::string filled(std::string_view text, const TemplateValues& values) {
  const auto value_of = [&](std::string_view name) -> const std::string& {
    const auto found = values.find(name);
    if (found == values.end()) lowbit::raise<lowbit::FormatError>("template: nothing is called " + std::string(name));
    return found->second;
  };
  std::string result;
  while (true) {
    const auto open = text.find("{{");
    result += text.substr(0, open);
    if (open == text.npos) return result;
    const auto close = text.find("}}", open);
    if (close == text.npos) lowbit::raise<lowbit::FormatError>("template: a {{ is never closed");
    const std::string_view name = text.substr(open + 2, close - open - 2);
    text.remove_prefix(close + 2);
    if (!name.starts_with('#')) {
      result += value_of(name);
      continue;
    }
    const std::string end = "{{/" + std::string(name.substr(1)) + "}}";
    const auto at = text.find(end);
    if (at == text.npos) lowbit::raise<lowbit::FormatError>("template: " + std::string(name) + " has no end");
    if (!value_of(name.substr(1)).empty()) result += filled(text.substr(0, at), values);
    text.remove_prefix(at + end.size());
  }
}

}  // namespace examples
