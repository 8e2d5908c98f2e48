# SPDX-License-Identifier: MIT
# What lowbit's own tests, examples and benchmarks are built with.  Nothing here reaches a project that uses lowbit.

add_library(lowbit_flags INTERFACE)
if(MSVC)
  target_compile_options(lowbit_flags INTERFACE /W4 $<$<BOOL:${LOWBIT_WERROR}>:/WX>)
else()
  target_compile_options(lowbit_flags INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                                   $<$<BOOL:${LOWBIT_WERROR}>:-Werror>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 sees an overlapping copy in every "literal" + std::string (its bug 105651).
    target_compile_options(lowbit_flags INTERFACE -Wno-restrict)
    if(CMAKE_CXX_FLAGS MATCHES "-march=")
      # Its avx512fintrin.h says __m512 y = y, which it then reports wherever Eigen's code was inlined.
      target_compile_options(lowbit_flags INTERFACE -Wno-maybe-uninitialized -Wno-uninitialized)
    endif()
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
    # With these four, GCC 12 takes more than eight minutes for the kernels; without them one and a half.  clang has them all.
    target_compile_options(lowbit_flags INTERFACE -fno-sanitize=null,alignment,object-size,pointer-overflow
                                                     -fno-var-tracking)
  endif()
endif()

target_link_libraries(lowbit_kernels PRIVATE lowbit_flags)
target_link_libraries(lowbit_c PRIVATE $<BUILD_INTERFACE:lowbit_flags>)

# lowbit_require(NAME...): dependencies without which the project's own programs cannot be built.
function(lowbit_require)
  foreach(name IN LISTS ARGN)
    lowbit_dependency(${name} problem)
    if(problem)
      message(FATAL_ERROR "lowbit: ${problem}")
    endif()
  endforeach()
endfunction()

# lowbit_add_program(NAME SOURCES file... [LIBRARIES target...])
# An executable with our warnings, all parts of lowbit and the shared kernels.
function(lowbit_add_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
  add_executable(${name} ${arg_SOURCES})
  target_compile_definitions(${name} PRIVATE LOWBIT_ASSETS="${PROJECT_SOURCE_DIR}/examples/assets")
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")  # "examples/common/...", "bench/..."
  target_link_libraries(${name} PRIVATE lowbit::lowbit lowbit::eigen lowbit::io lowbit::gpt2 lowbit_kernels lowbit_flags ${arg_LIBRARIES})
endfunction()
