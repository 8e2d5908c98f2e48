# SPDX-License-Identifier: MIT
include(CMakeFindDependencyMacro)
find_dependency(lowbit)
include("${CMAKE_CURRENT_LIST_DIR}/chain.cmake")
