// SPDX-License-Identifier: MIT
// The figures of the paper "Model Compression Analysis: GPT-2 Small Quantization Methods", as printed there, by table.  Its MB are
// 2^20 bytes.  Its confusion matrices are a picture without numbers in the text, so there are none here.
#pragma once
#include <array>
#include <optional>
#include <string_view>

namespace examples::paper {

// Table 1: Efficiency Metrics.  Throughput is from section 3.2, which gives none for INT8 (Scratch).
struct Table1 {
  double memory_mb, compression, latency_ms;
  std::optional<double> per_second;
};
// Table 2: Performance Metrics, percent.
struct Table2 {
  double accuracy, precision, recall, f1;
};
// Table 3: Per-Class F1-Scores, percent, in the order of class_names.
using Table3 = std::array<double, 4>;
inline constexpr std::array<std::string_view, 4> class_names = {"World", "Sports", "Business", "Sci/Tech"};

struct Row {
  std::string_view id;  // ours
  Table1 table1;
  Table2 table2;
  Table3 table3;
};
inline constexpr std::array<Row, 4> rows = {{
    {"fp32", {486.71, 1.00, 8.73, 114.48}, {94.62, 94.62, 94.62, 94.62}, {95.78, 98.79, 91.40, 92.50}},
    {"int8_scratch", {243.70, 2.00, 10.41, std::nullopt}, {94.54, 94.53, 94.54, 94.53}, {95.72, 98.77, 91.25, 92.39}},
    {"int8_bnb", {168.36, 2.89, 29.39, 34.02}, {94.58, 94.58, 94.58, 94.58}, {95.68, 98.82, 91.28, 92.53}},
    {"nf4_bnb", {127.86, 3.81, 16.66, 60.04}, {94.70, 94.70, 94.70, 94.69}, {95.70, 98.82, 91.65, 92.61}},
}};

// The paper's row of a model of ours; null for models that it does not have.
constexpr const Row* find(std::string_view id) {
  for (const Row& row : rows)
    if (row.id == id) return &row;
  return nullptr;
}

}  // namespace examples::paper
