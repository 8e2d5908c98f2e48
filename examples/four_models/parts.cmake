# SPDX-License-Identifier: MIT
# What the comparison and the benchmarks of whole models share: how each model is made, random weights, and the texts.
if(NOT TARGET four_models_parts)
  add_library(four_models_parts OBJECT "${CMAKE_CURRENT_LIST_DIR}/models.cpp" "${CMAKE_CURRENT_LIST_DIR}/synthetic.cpp"
                                       "${CMAKE_CURRENT_LIST_DIR}/dataset.cpp")
  target_link_libraries(four_models_parts PRIVATE lowbit::lowbit lowbit::gpt2 fmt::fmt-header-only lowbit_flags
                                                    lowbit_kernels)
endif()
