// SPDX-License-Identifier: MIT
// Saved packed weights: what is mapped can be multiplied and unpacked, whatever its scales are.
#include <algorithm>
#include <cstring>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "lowbit/matmul.hpp"
#include "lowbit/tensor/packed_tensor.hpp"

namespace {

// Exactly as many bytes, aligned, so that the sanitizer sees the first one behind them.
class Aligned {
 public:
  explicit Aligned(std::span<const std::byte> bytes)
      : data_(static_cast<std::byte*>(::operator new(bytes.size(), alignment))), size_(bytes.size()) {
    if (size_ != 0) std::memcpy(data_, bytes.data(), size_);
  }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  ~Aligned() { ::operator delete(data_, alignment); }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  static constexpr std::align_val_t alignment{lowbit::PackedTensor::alignment};
  std::byte* data_;
  std::size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Aligned image(lowbit_fuzz::bytes_of(data, size));
  lowbit_fuzz::reads("packed tensor: ", [&] {
    const lowbit::PackedTensor packed = lowbit::PackedTensor::map(image.bytes());
    lowbit_fuzz::touch(packed.bytes());
    if (packed.cols() <= 4096) {  // no rows, and columns without end
      const std::vector<float> x(3 * packed.cols(), 0.5f);
      std::vector<float> y(3 * packed.rows());
      lowbit::SerialExecutor executor;
      for (const lowbit::Compute compute : {lowbit::Compute::f32, lowbit::Compute::bf16, lowbit::Compute::int8}) {
        if (compute == lowbit::Compute::int8 && lowbit::detail::element_bits(packed.format()) > 8) continue;
        lowbit::MatmulOptions options;
        options.compute = compute;
        options.executor = &executor;
        lowbit::matmul(x.data(), 3, packed, y.data(), options);
      }
    }
    const lowbit::Tensor tensor = packed.unpack();
    lowbit_fuzz::expect(tensor.rows() == packed.rows() && tensor.cols() == packed.cols(), "the shape again");
    // Not the same bytes: padding is not kept, nor are codes of scales that come back without them.
    const lowbit::Tensor again = lowbit::PackedTensor::pack(tensor).unpack();
    lowbit_fuzz::expect(again.element_bytes() == tensor.element_bytes() &&
                            std::equal(again.parts().codes.begin(), again.parts().codes.end(), tensor.parts().codes.begin()),
                        "the same codes when packed again");
  });
  return 0;
}
