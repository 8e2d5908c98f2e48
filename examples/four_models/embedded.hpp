// SPDX-License-Identifier: MIT
// The files beside this one that are compiled into the program (CMake writes embedded.cpp).
#pragma once
#include <string_view>

namespace examples {

extern const std::string_view report_template;  // report.html.in
extern const std::string_view figures_css;      // figures.css

}  // namespace examples
