// SPDX-License-Identifier: MIT
// The documentation: code on a page is code of a file that is compiled, and what pages show of lowbit's use works here.  A page names the
// file in front of the code: <!-- code: tests/docs_test.cpp -->
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/gpt2/generation.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/text_stream.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/bitsandbytes.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/model_files.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/random.hpp"

namespace docs_test {

namespace {

// ---- docs/adding-a-format.md -------------------------------------------------------------------------------------------------------

// MXFP4 (OCP Microscaling Formats 1.0): blocks of 32 elements of 4 bits, e2m1, with one scale of 8 bits, e8m0, a power of two.
// codes: two to a byte, the first in the low half; scales: [rows cols / 32].  cols is a multiple of 32.
lowbit::Tensor from_mxfp4(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales, std::size_t rows,
                          std::size_t cols) {
  lowbit::require(cols % 32 == 0 && codes.size() == rows * cols / 2 && scales.size() == rows * cols / 32,
                  [&] { return "MXFP4: expected rows of whole blocks of 32, found " + lowbit::shape_string(rows, cols); });
  lowbit::TensorParts parts;
  parts.format = lowbit::Format::nf4;  // 4-bit codes of any table
  parts.rows = rows;
  parts.cols = cols;
  parts.block = 32;
  // Divided by 8, which the scales make good, so that the table is inside [-1, 1]: both exactly.
  constexpr std::array<float, 8> magnitudes{0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (std::size_t i = 0; i < 8; ++i) {
    parts.table[i] = magnitudes[i] / 8;
    parts.table[i + 8] = -magnitudes[i] / 8;
  }
  parts.scales.reset(scales.size());
  for (std::size_t b = 0; b < scales.size(); ++b) parts.scales[b] = std::ldexp(8.0f, scales[b] - 127);
  parts.codes.reset(codes.size());  // ours: the first in the high half
  for (std::size_t i = 0; i < codes.size(); ++i) parts.codes[i] = static_cast<std::uint8_t>(codes[i] << 4 | codes[i] >> 4);
  return lowbit::Tensor(std::move(parts));
}

}  // namespace

TEST_CASE("a format of 4-bit codes with a table of its own multiplies at every level", "[docs]") {
  const std::size_t rows = 96, cols = 64, m = 3;
  lowbit_test::Random random(5);
  std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / 32);
  for (std::uint8_t& c : codes) c = static_cast<std::uint8_t>(random.below(256));
  for (std::uint8_t& s : scales) s = static_cast<std::uint8_t>(120 + random.below(8));
  const std::vector<float> x = random.normals(m * cols);
  const lowbit::Tensor tensor = from_mxfp4(codes, scales, rows, cols);

  // By the format's description, in double.
  const auto weight = [&](std::size_t n, std::size_t k) {
    const std::size_t e = n * cols + k;
    const int code = e % 2 == 0 ? codes[e / 2] & 15 : codes[e / 2] >> 4, exponent = code >> 1 & 3, fraction = code & 1;
    const double magnitude = exponent == 0 ? 0.5 * fraction : std::ldexp(1 + 0.5 * fraction, exponent - 1);
    return std::ldexp((code & 8) != 0 ? -magnitude : magnitude, scales[e / 32] - 127);
  };
  std::vector<float> decoded(rows * cols);
  tensor.dequantize(decoded.data());
  for (std::size_t n = 0; n < rows; ++n)
    for (std::size_t k = 0; k < cols; ++k) REQUIRE(static_cast<double>(decoded[n * cols + k]) == weight(n, k));

  lowbit_test::for_each_level([&](lowbit::Level) {
    std::vector<float> y(m * rows);
    const lowbit::Linear layer(lowbit::PackedTensor::pack(tensor), {}, {.compute = lowbit::Compute::f32});
    layer.forward(x.data(), m, y.data());
    for (std::size_t r = 0; r < m; ++r)
      for (std::size_t n = 0; n < rows; ++n) {
        double sum = 0, size = 0;
        for (std::size_t k = 0; k < cols; ++k) {
          const double product = static_cast<double>(x[r * cols + k]) * weight(n, k);
          sum += product;
          size += std::fabs(product);
        }
        // One rounding for each of 64 sums and each block's scale, total and carry.
        REQUIRE(std::fabs(static_cast<double>(y[r * rows + n]) - sum) <= 70 * 0x1p-24 * size);
      }
  });
}

// ---- docs/engine.md, docs/getting-started.md ---------------------------------------------------------------------------------------

// A page's file names are short and relative.
class WorkingFolder {
 public:
  explicit WorkingFolder(const std::filesystem::path& path) { std::filesystem::current_path(path); }
  ~WorkingFolder() { std::filesystem::current_path(before_); }
  WorkingFolder(const WorkingFolder&) = delete;
  WorkingFolder& operator=(const WorkingFolder&) = delete;

 private:
  const std::filesystem::path before_ = std::filesystem::current_path();
};

TEST_CASE("what docs/engine.md shows multiplies", "[docs]") {
  const std::size_t out = 128, in = 64, m = 2;
  lowbit_test::Random random(6);
  const std::vector<float> values = random.normals(out * in), x_values = random.normals(m * in), bias_values = random.normals(out);
  const lowbit::Tensor tensor = lowbit::NF4Tensor<64, lowbit::PlainAbsmax>::quantize(values.data(), out, in);
  const float *x = x_values.data(), *bias = bias_values.data();
  std::vector<float> y_values(m * out), expected(m * out);
  float* y = y_values.data();

  {
    const lowbit::Tensor& w = tensor;
    lowbit::SerialExecutor mine;
    lowbit::matmul(x, m, w, y, {{.compute = lowbit::Compute::int8}, {.activation = lowbit::gelu_tanh}, {.executor = &mine}, bias});
    const lowbit::Linear layer(lowbit::NF4Tensor<64, lowbit::PlainAbsmax>::quantize(values.data(), out, in), bias,
                               {{.compute = lowbit::Compute::int8}, /*pack=*/false});
    layer.forward(x, m, expected.data(), {.activation = lowbit::gelu_tanh});
    CHECK(y_values == expected);
  }
  {
    const void* codes = tensor.parts().codes.data();
    const float* absmax = tensor.parts().scales.data();
    lowbit::WeightsViewParts parts{
        .format = lowbit::Format::nf4, .rows = out, .cols = in, .codes = codes, .block = 64, .scales = absmax};
    lowbit::matmul(x, m, lowbit::WeightsView(parts), y);  // or Linear(lowbit::WeightsView(parts), bias)
    lowbit::matmul(x, m, tensor, expected.data());
    CHECK(y_values == expected);
  }
  {
    const lowbit_test::Folder folder;
    const WorkingFolder here(folder.path());
    lowbit::io::write_atomically("q.packed", lowbit::PackedTensor::pack(tensor).bytes());
    const lowbit::io::MappedFile file("q.packed");                    // must outlive the layer
    const lowbit::Linear q(lowbit::PackedTensor::map(file.bytes()));  // refuses what is no packed tensor of this layout
    q.forward(x, m, y);
    lowbit::matmul(x, m, lowbit::PackedTensor::pack(tensor), expected.data());
    CHECK(y_values == expected);
  }
  {
    const lowbit::PackedTensor q = lowbit::PackedTensor::pack(tensor), k = lowbit::PackedTensor::pack(tensor);
    float* yq = y;
    std::vector<float> k_values(m * out);
    float* yk = k_values.data();
    lowbit::PreparedInput rows = lowbit::input_for(q);  // the form that products with q read; k and v of the same kind share it
    lowbit::prepare_input({x, m, in}, rows);            // converted once; or produce_input(): from a function that makes rows
    lowbit::matmul(rows, q, {yq, m, out});
    lowbit::matmul(rows, k, {yk, m, out});
    CHECK(y_values == expected);
    CHECK(k_values == expected);
  }
}

TEST_CASE("what docs/comparison.md shows of the mini model classifies", "[docs]") {
  const std::filesystem::path folder = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";
  const auto model = lowbit::gpt2::Model<lowbit::NF4Tensor<>>::load(folder);
  const auto tokenizer = lowbit::gpt2::Tokenizer::load(folder);
  const auto logits = model.classify(tokenizer.encode("Shares rose after the merger"), lowbit::default_executor());
  CHECK(model.config.class_names[static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin())] ==
        "Business");
}

namespace {

// README.md: compiled, not run, as its checkpoint is none of ours.
[[maybe_unused]] void checkpoint(const float* x, std::size_t m, float* y) {
  const auto files = lowbit::io::ModelFiles::open("llama-nf4");  // a folder of safetensors, mapped
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  const lowbit::Linear in_place(lowbit::io::view_four_bit(files, name));       // copies nothing; files must outlive it
  const lowbit::Linear packed(lowbit::io::read_four_bit(files, name).tensor);  // copies, and is faster
  packed.forward(x, m, y);
  in_place.forward(x, m, y);
}

// docs/generation.md: compiled, not run, as its model is none of ours.
[[maybe_unused]] void generation() {
  const auto model = lowbit::gpt2::Model<lowbit::NF4Tensor<>>::load("gpt2", {.embeddings = lowbit::Format::int8});
  const auto tokenizer = lowbit::gpt2::Tokenizer::load("gpt2");
  lowbit::gpt2::Sequence text(model.config, tokenizer.encode("The oil price"), {.sampling = {.temperature = 0.8, .seed = 1}});
  lowbit::gpt2::TextStream stream({"\n\n"});        // stop strings
  lowbit::gpt2::Sequence* const batch[] = {&text};  // any others beside it; said anew for every pass
  while (!text.done() && !stream.stopped()) {
    const std::size_t before = text.tokens().size();
    lowbit::gpt2::advance(model, batch, lowbit::default_executor());
    std::cout << stream.push(tokenizer.decode(text.tokens().subspan(before)));
  }
  std::cout << stream.finish();
}

// ---- the pages ---------------------------------------------------------------------------------------------------------------------

// The lines of a text without what stands in front of and behind them, as pages are indented otherwise.
std::vector<std::string> bare_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = (std::min)(text.find('\n'), text.size() - 1);
    std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    const std::size_t first = line.find_first_not_of(" \t\n"), last = line.find_last_not_of(" \t\n");
    lines.emplace_back(first == line.npos ? "" : line.substr(first, last - first + 1));
  }
  return lines;
}

// Every "<!-- code: FILE -->" of a page with the block of code behind it.
struct Shown {
  std::string file, code;
};
std::vector<Shown> shown_on(const std::string& page) {
  std::vector<Shown> all;
  const std::string mark = "<!-- code: ";
  for (std::size_t at = page.find(mark); at != page.npos; at = page.find(mark, at + 1)) {
    const std::size_t name = at + mark.size(), fence = page.find("```", name), begin = page.find('\n', fence) + 1,
                      end = page.find("```", begin);
    REQUIRE(end != page.npos);
    all.push_back({page.substr(name, page.find(" -->", name) - name), page.substr(begin, end - begin)});
  }
  return all;
}

}  // namespace

TEST_CASE("code on a page of docs is in the file that the page names", "[docs]") {
  const std::filesystem::path project = lowbit::testing::assets_dir() / ".." / "..";
  std::vector<std::filesystem::path> pages{project / "README.md"};
  for (const auto& entry : std::filesystem::directory_iterator(project / "docs"))
    if (entry.path().extension() == ".md") pages.push_back(entry.path());
  std::size_t count = 0;
  for (const std::filesystem::path& path : pages) {
    const std::string page = lowbit::io::read_text(path);
    const std::string_view cpp = "\n```cpp\n";
    for (std::size_t at = page.find(cpp); at != page.npos; at = page.find(cpp, at + 1)) {
      INFO(path.filename().string() << " does not say where this stands: " << page.substr(at, 200));
      const std::string_view before = std::string_view(page).substr(0, at);
      CHECK(before.substr(before.rfind('\n') + 1).starts_with("<!-- code: "));
    }
    for (const Shown& shown : shown_on(page)) {
      const std::vector<std::string> code = bare_lines(shown.code), file = bare_lines(lowbit::io::read_text(project / shown.file));
      INFO(path.filename().string() << " shows of " << shown.file << ":\n" << shown.code);
      CHECK_FALSE(code.empty());
      CHECK(std::search(file.begin(), file.end(), code.begin(), code.end()) != file.end());
      ++count;
    }
  }
  CHECK(count >= 17);
}

TEST_CASE("an example of one file is read in a minute", "[docs]") {
  const std::filesystem::path examples = lowbit::testing::assets_dir() / "..";
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(examples)) {
    if (entry.path().extension() != ".cpp") continue;
    const std::string program = lowbit::io::read_text(entry.path());
    INFO(entry.path().filename().string());
    CHECK(std::count(program.begin(), program.end(), '\n') < 80);
    ++count;
  }
  CHECK(count >= 6);
}

}  // namespace docs_test
