# SPDX-License-Identifier: MIT
# What several programs share: how each model is made, random weights, the texts.
if(NOT TARGET examples_common)
  add_library(examples_common OBJECT "${CMAKE_CURRENT_LIST_DIR}/models.cpp" "${CMAKE_CURRENT_LIST_DIR}/synthetic.cpp"
                                     "${CMAKE_CURRENT_LIST_DIR}/dataset.cpp")
  target_include_directories(examples_common PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(examples_common PRIVATE lowbit::lowbit lowbit::gpt2 fmt::fmt-header-only lowbit_flags lowbit_kernels)
endif()
