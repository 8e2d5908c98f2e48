# SPDX-License-Identifier: MIT
# lowbit::c: the interface for C, include/lowbit.h, as a library: an archive, or a shared one where BUILD_SHARED_LIBS asks for it.  In
# somebody else's project it is built where something links it.
set(exclude)
if(NOT PROJECT_IS_TOP_LEVEL)
  set(exclude EXCLUDE_FROM_ALL)
endif()
add_library(lowbit_c ${exclude} cmake/c.cpp)
set_target_properties(lowbit_c PROPERTIES
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  POSITION_INDEPENDENT_CODE ON
  CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON)
target_include_directories(lowbit_c ${system} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>")
# All that it is made of is inside; who links the archive needs threads beside the C++ library.
target_link_libraries(lowbit_c PRIVATE "$<BUILD_INTERFACE:lowbit_io>" Threads::Threads)
target_compile_definitions(lowbit_c PRIVATE LOWBIT_KERNELS_EXTERN)
target_sources(lowbit_c PRIVATE "$<BUILD_INTERFACE:$<TARGET_OBJECTS:lowbit_kernels>>")
get_target_property(type lowbit_c TYPE)
if(type STREQUAL "SHARED_LIBRARY")
  target_compile_definitions(lowbit_c PRIVATE LOWBIT_C_BUILD INTERFACE LOWBIT_C_SHARED)
  # kernels.cpp is compiled for every use, so what it defines is hidden here.
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" AND NOT APPLE AND NOT WIN32)
    target_link_options(lowbit_c PRIVATE "LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/c.map")
    set_property(TARGET lowbit_c APPEND PROPERTY LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/c.map")
  endif()
endif()
