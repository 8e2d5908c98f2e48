# SPDX-License-Identifier: MIT
# The libraries that lowbit stands on, in one place.  Used by the build and, installed, by find_package(lowbit).
#
#   lowbit_dependency(NAME PROBLEM)   makes the target of NAME and empties PROBLEM, or sets PROBLEM to a sentence that says what
#                                     to install.  A target that exists already is used as it is.
#
# Targets of libraries are seen in the folder that asks for them and below, so that a project above may make its own of the same name.
# What is installed comes first.  With LOWBIT_FETCH=ON what is missing is downloaded, at the versions that Debian 12 has.
include_guard()

#                          package        target                         Debian package         archive and the headers in it
set(lowbit_dep_xsimd       xsimd          lowbit::xsimd                  libxsimd-dev
    https://github.com/xtensor-stack/xsimd/archive/refs/tags/8.1.0.tar.gz include)
set(lowbit_dep_eigen       Eigen3         Eigen3::Eigen                  libeigen3-dev
    https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz .)
set(lowbit_dep_json        nlohmann_json  nlohmann_json::nlohmann_json   nlohmann-json3-dev
    https://github.com/nlohmann/json/archive/refs/tags/v3.11.2.tar.gz include)
set(lowbit_dep_utf8proc    utf8proc       lowbit::utf8proc               libutf8proc-dev
    https://github.com/JuliaStrings/utf8proc/archive/refs/tags/v2.8.0.tar.gz .)
set(lowbit_dep_catch2      Catch2         Catch2::Catch2                 catch2
    https://github.com/catchorg/Catch2/archive/refs/tags/v2.13.10.tar.gz single_include)
set(lowbit_dep_benchmark   benchmark      benchmark::benchmark           libbenchmark-dev
    https://github.com/google/benchmark/archive/refs/tags/v1.7.1.tar.gz include)
set(lowbit_dep_cli11       CLI11          CLI11::CLI11                   libcli11-dev
    https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.1.2.tar.gz include)
set(lowbit_dep_fmt         fmt            fmt::fmt-header-only           libfmt-dev
    https://github.com/fmtlib/fmt/archive/refs/tags/9.1.0.tar.gz include)

# What each part of lowbit needs, besides threads.
set(lowbit_needs_core xsimd)
set(lowbit_needs_eigen eigen)
set(lowbit_needs_io json)
set(lowbit_needs_gpt2 json utf8proc)
set(lowbit_needs_c json)
# What our own programs need besides; their targets are seen in all folders.
set(lowbit_tools catch2 benchmark cli11 fmt)

# lowbit_add_kernels(SOURCE LOWBIT): lowbit_kernels, which compiles SOURCE (kernels.cpp) once where something wants it, and
# lowbit::kernels, which brings its object file.  LOWBIT is the headers' target.  An imported target may be linked privately by a
# library that is exported, and such a library holds the kernels itself.
function(lowbit_add_kernels source lowbit)
  if(NOT TARGET lowbit_kernels)
    add_library(lowbit_kernels STATIC EXCLUDE_FROM_ALL "${source}")
    set_target_properties(lowbit_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_link_libraries(lowbit_kernels PUBLIC ${lowbit})
    target_compile_definitions(lowbit_kernels INTERFACE LOWBIT_KERNELS_EXTERN)
    if(NOT MSVC)  # a debug build of its user is no reason to wait for every product
      target_compile_options(lowbit_kernels PRIVATE $<$<CONFIG:Debug>:-O2>)
    endif()
  endif()
  add_library(lowbit::kernels INTERFACE IMPORTED GLOBAL)
  target_link_libraries(lowbit::kernels INTERFACE ${lowbit})
  target_compile_definitions(lowbit::kernels INTERFACE LOWBIT_KERNELS_EXTERN)
  target_sources(lowbit::kernels INTERFACE $<TARGET_OBJECTS:lowbit_kernels>)
endfunction()

# xsimd's own target is not used: as Debian packages it, it links a library called xtl that need not exist.
function(_lowbit_find_xsimd)
  if(NOT TARGET xsimd)
    find_package(xsimd CONFIG QUIET)
  endif()
  if(TARGET xsimd)
    get_target_property(include_dirs xsimd INTERFACE_INCLUDE_DIRECTORIES)
  else()
    find_path(LOWBIT_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp)
    mark_as_advanced(LOWBIT_XSIMD_INCLUDE_DIR)
    set(include_dirs "${LOWBIT_XSIMD_INCLUDE_DIR}")
  endif()
  if(include_dirs)
    add_library(lowbit::xsimd INTERFACE IMPORTED)
    target_include_directories(lowbit::xsimd SYSTEM INTERFACE ${include_dirs})
  endif()
endfunction()

# utf8proc comes without a CMake package in Debian 12.
function(_lowbit_find_utf8proc)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(LOWBIT_PC_UTF8PROC QUIET libutf8proc)
  endif()
  find_path(LOWBIT_UTF8PROC_INCLUDE_DIR utf8proc.h HINTS ${LOWBIT_PC_UTF8PROC_INCLUDE_DIRS})
  find_library(LOWBIT_UTF8PROC_LIBRARY utf8proc HINTS ${LOWBIT_PC_UTF8PROC_LIBRARY_DIRS})
  mark_as_advanced(LOWBIT_UTF8PROC_INCLUDE_DIR LOWBIT_UTF8PROC_LIBRARY)
  if(LOWBIT_UTF8PROC_INCLUDE_DIR AND LOWBIT_UTF8PROC_LIBRARY)
    add_library(lowbit::utf8proc INTERFACE IMPORTED)
    target_include_directories(lowbit::utf8proc SYSTEM INTERFACE "${LOWBIT_UTF8PROC_INCLUDE_DIR}")
    target_link_libraries(lowbit::utf8proc INTERFACE "${LOWBIT_UTF8PROC_LIBRARY}")
  endif()
endfunction()

function(_lowbit_fetch name package target url headers)
  include(FetchContent)
  set(scope)
  if(name IN_LIST lowbit_tools)
    set(scope GLOBAL)
  endif()
  if(name STREQUAL "benchmark")
    set(BENCHMARK_ENABLE_TESTING OFF CACHE BOOL "" FORCE)
    set(BENCHMARK_ENABLE_INSTALL OFF CACHE BOOL "" FORCE)
    FetchContent_Declare(benchmark URL "${url}" SYSTEM)
    FetchContent_MakeAvailable(benchmark)
  elseif(name STREQUAL "utf8proc")
    set(UTF8PROC_INSTALL OFF CACHE BOOL "" FORCE)
    FetchContent_Declare(utf8proc URL "${url}" SYSTEM)
    FetchContent_MakeAvailable(utf8proc)
    add_library(${target} INTERFACE IMPORTED)
    target_link_libraries(${target} INTERFACE utf8proc)
  else()
    # Headers only: a source folder that does not exist keeps their own CMake project out of ours, and a name of ours leaves theirs
    # to a project that fetches the same library as a whole.
    set(content lowbit_${name})
    FetchContent_Declare(${content} URL "${url}" SOURCE_SUBDIR headers-only)
    FetchContent_MakeAvailable(${content})
    add_library(${target} INTERFACE IMPORTED ${scope})
    target_include_directories(${target} SYSTEM INTERFACE "${${content}_SOURCE_DIR}/${headers}")
    if(name STREQUAL "fmt")
      target_compile_definitions(${target} INTERFACE FMT_HEADER_ONLY=1)
    endif()
  endif()
endfunction()

function(lowbit_dependency name problem)
  set(${problem} "" PARENT_SCOPE)
  list(GET lowbit_dep_${name} 0 package)
  list(GET lowbit_dep_${name} 1 target)
  list(GET lowbit_dep_${name} 2 debian)
  list(GET lowbit_dep_${name} 3 url)
  list(GET lowbit_dep_${name} 4 headers)
  if(NOT TARGET ${target})
    if(name STREQUAL "xsimd")
      _lowbit_find_xsimd()
    elseif(name STREQUAL "utf8proc")
      _lowbit_find_utf8proc()
    elseif(name IN_LIST lowbit_tools)
      find_package(${package} QUIET GLOBAL)
    else()
      find_package(${package} QUIET)
    endif()
  endif()
  if(NOT TARGET ${target} AND LOWBIT_FETCH)
    _lowbit_fetch(${name} ${package} ${target} "${url}" "${headers}")
  endif()
  if(NOT TARGET ${target})
    set(${problem} "${package} was not found. Install it (Debian: apt-get install ${debian}), or set LOWBIT_FETCH=ON to download it."
        PARENT_SCOPE)
  endif()
endfunction()
