# SPDX-License-Identifier: MIT
# Packages of what is installed, by CPack: Debian's lowbit-dev (headers, CMake and pkg-config files, the C library) and lowbit-tools (the
# programs).   cpack --config build/release/CPackConfig.cmake -B FOLDER
set(CPACK_PACKAGE_VENDOR "The lowbit authors")
set(CPACK_PACKAGE_CONTACT "The lowbit authors <lowbit@example.invalid>")  # a Debian package must name somebody
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL lowbit_dev lowbit_tools)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_STRIP_FILES ON)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LOWBIT_DEV_PACKAGE_NAME lowbit-dev)
set(CPACK_COMPONENT_LOWBIT_DEV_DESCRIPTION
    "quantized tensors and fused dequantize-GEMM kernels for the CPU
Header-only C++20: NF4, FP4, INT8 and LLM.int8() weights, checkpoints of
bitsandbytes and GGUF, and the interface for C as an archive.")
set(CPACK_DEBIAN_LOWBIT_DEV_PACKAGE_DEPENDS "libxsimd-dev (>= 8.1), nlohmann-json3-dev")
set(CPACK_DEBIAN_LOWBIT_DEV_PACKAGE_RECOMMENDS "cmake (>= 3.25)")
set(CPACK_DEBIAN_LOWBIT_DEV_PACKAGE_SUGGESTS "libeigen3-dev, libutf8proc-dev")

set(CPACK_DEBIAN_LOWBIT_TOOLS_PACKAGE_NAME lowbit-tools)
set(CPACK_DEBIAN_LOWBIT_TOOLS_PACKAGE_SECTION utils)
set(CPACK_COMPONENT_LOWBIT_TOOLS_DESCRIPTION
    "quantize, inspect and run language models' weights on the CPU
lowbit-quantize writes and compares NF4, FP4, INT8 and LLM.int8() folders and
GGUF files; lowbit-generate continues texts with a GPT-2 in any format.")
set(CPACK_DEBIAN_LOWBIT_TOOLS_PACKAGE_SHLIBDEPS ON)
include(CPack)
