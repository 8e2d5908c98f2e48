# SPDX-License-Identifier: MIT
# Files for pkg-config.  Paths are relative to the file, so that an installed tree can be moved.

# lowbit_install_pkgconfig(NAME FOLDER): installs NAME.pc, made of cmake/NAME.pc.in.
function(lowbit_install_pkgconfig name folder)
  file(RELATIVE_PATH prefix "${CMAKE_INSTALL_PREFIX}/${folder}" "${CMAKE_INSTALL_PREFIX}")
  string(REGEX REPLACE "/$" "" prefix "${prefix}")
  file(RELATIVE_PATH package "${CMAKE_INSTALL_PREFIX}/${folder}" "${CMAKE_INSTALL_PREFIX}/${package_dir}")
  foreach(dir includedir libdir)
    string(TOUPPER "CMAKE_INSTALL_${dir}" path)
    set(${dir} "${${path}}")
    if(NOT IS_ABSOLUTE "${${dir}}")
      set(${dir} "\${prefix}/${${dir}}")
    endif()
  endforeach()

  # xsimd is headers.  Its own file for pkg-config need not be there, nor be needed where the compiler finds them.
  set(xsimd_cflags)
  get_target_property(paths lowbit::xsimd INTERFACE_INCLUDE_DIRECTORIES)
  foreach(path IN LISTS paths)
    if(NOT path IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
      string(APPEND xsimd_cflags " -isystem ${path}")
    endif()
  endforeach()

  # What a C program must link for C++: told to all where the library is an archive, else only to who asks for --static.
  set(libs)
  foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    if(library MATCHES "^(stdc\\+\\+|c\\+\\+|c\\+\\+abi|m)$")
      string(APPEND libs " -l${library}")
    endif()
  endforeach()
  string(APPEND libs " -pthread")
  set(static_libs)
  set(shared_libs)
  if(BUILD_SHARED_LIBS)
    set(shared_libs "${libs}")
  else()
    set(static_libs "${libs}")
  endif()

  configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${name}.pc" DESTINATION "${folder}")
endfunction()
