# SPDX-License-Identifier: MIT
# Libraries that the benchmarks compare with, where they are installed.  lowbit_peers: the targets of those that were found, each with
# a definition that says so.
set(lowbit_peers)

if(NOT TARGET lowbit_peer_onednn)
  find_path(LOWBIT_ONEDNN_INCLUDE_DIR dnnl.hpp)
  find_library(LOWBIT_ONEDNN_LIBRARY dnnl)
  # OpenBLAS has a header of its own for what a plain BLAS lacks.
  find_path(LOWBIT_OPENBLAS_INCLUDE_DIR NAMES openblas_config.h PATH_SUFFIXES openblas-pthread openblas
            HINTS "/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}")
  find_library(LOWBIT_OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-pthread)
  mark_as_advanced(LOWBIT_ONEDNN_INCLUDE_DIR LOWBIT_ONEDNN_LIBRARY LOWBIT_OPENBLAS_INCLUDE_DIR LOWBIT_OPENBLAS_LIBRARY)
endif()

function(_lowbit_peer name title debian)
  string(TOUPPER "${name}" upper)
  if(LOWBIT_${upper}_INCLUDE_DIR AND LOWBIT_${upper}_LIBRARY)
    if(NOT TARGET lowbit_peer_${name})
      add_library(lowbit_peer_${name} INTERFACE IMPORTED GLOBAL)
      target_include_directories(lowbit_peer_${name} SYSTEM INTERFACE "${LOWBIT_${upper}_INCLUDE_DIR}")
      target_link_libraries(lowbit_peer_${name} INTERFACE "${LOWBIT_${upper}_LIBRARY}" ${CMAKE_DL_LIBS})
      target_compile_definitions(lowbit_peer_${name} INTERFACE BENCH_${upper}=1)
    endif()
    set(lowbit_peers ${lowbit_peers} lowbit_peer_${name} PARENT_SCOPE)
  else()
    message(STATUS "lowbit: the benchmarks go without ${title}, which was not found (Debian: apt-get install ${debian})")
  endif()
endfunction()

_lowbit_peer(onednn oneDNN libdnnl-dev)
_lowbit_peer(openblas OpenBLAS libopenblas-dev)
