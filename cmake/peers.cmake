# SPDX-License-Identifier: MIT
# Libraries that the benchmarks compare with, where they are installed.  lowbit_peers: the targets of those that were found; each
# brings a definition, BENCH_ONEDNN or BENCH_OPENBLAS, that says so.
include_guard()

find_path(LOWBIT_ONEDNN_INCLUDE_DIR dnnl.hpp)
find_library(LOWBIT_ONEDNN_LIBRARY dnnl)
# By the header that no other BLAS has; Debian keeps both out of the way of the BLAS that is in use.
find_path(LOWBIT_OPENBLAS_INCLUDE_DIR openblas_config.h PATH_SUFFIXES openblas-pthread openblas)
find_library(LOWBIT_OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-pthread openblas)
mark_as_advanced(LOWBIT_ONEDNN_INCLUDE_DIR LOWBIT_ONEDNN_LIBRARY LOWBIT_OPENBLAS_INCLUDE_DIR LOWBIT_OPENBLAS_LIBRARY)

set(lowbit_peers)
function(_lowbit_peer name title debian)
  string(TOUPPER "${name}" upper)
  if(NOT LOWBIT_${upper}_INCLUDE_DIR OR NOT LOWBIT_${upper}_LIBRARY)
    message(STATUS "lowbit: the benchmarks go without ${title}, which was not found (Debian: apt-get install ${debian})")
    return()
  endif()
  add_library(lowbit_peer_${name} INTERFACE)
  target_include_directories(lowbit_peer_${name} SYSTEM INTERFACE "${LOWBIT_${upper}_INCLUDE_DIR}")
  target_link_libraries(lowbit_peer_${name} INTERFACE "${LOWBIT_${upper}_LIBRARY}" ${CMAKE_DL_LIBS})
  target_compile_definitions(lowbit_peer_${name} INTERFACE BENCH_${upper}=1)
  set(lowbit_peers ${lowbit_peers} lowbit_peer_${name} PARENT_SCOPE)
endfunction()
_lowbit_peer(onednn oneDNN libdnnl-dev)
_lowbit_peer(openblas OpenBLAS libopenblas-dev)
