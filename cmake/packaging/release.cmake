# SPDX-License-Identifier: MIT
# The files of a release, of the commit that is checked out:
#   cmake [-D OUT=dist] [-D URL=https://...] -P cmake/packaging/release.cmake
# OUT receives lowbit-VERSION.tar.gz, lowbit_all.hpp, SHA256SUMS of both, a vcpkg port and a Conan recipe that fetch the archive from URL.
# The same commit gives the same bytes.
cmake_minimum_required(VERSION 3.25)
get_filename_component(root "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
if(NOT DEFINED OUT)
  set(OUT dist)
endif()
get_filename_component(OUT "${OUT}" ABSOLUTE BASE_DIR "$ENV{PWD}")
if(NOT DEFINED URL)
  set(URL "https://example.invalid/lowbit/releases")
  message(STATUS "no URL was given: the port and the recipe name ${URL}")
endif()
find_program(GIT git REQUIRED)
find_program(PYTHON python3 REQUIRED)
set(strict WORKING_DIRECTORY "${root}" COMMAND_ERROR_IS_FATAL ANY)

file(STRINGS "${root}/include/lowbit/base/config.hpp" line REGEX "^#define LOWBIT_VERSION \"")
string(REGEX REPLACE ".*\"([^\"]+)\".*" "\\1" version "${line}")
execute_process(COMMAND "${GIT}" status --porcelain --untracked-files=no OUTPUT_VARIABLE changed ${strict})
if(changed)
  message(FATAL_ERROR "expected a checkout without changes, found:\n${changed}")
endif()

file(REMOVE_RECURSE "${OUT}")
file(MAKE_DIRECTORY "${OUT}")
set(archive "${OUT}/lowbit-${version}.tar.gz")
execute_process(COMMAND "${GIT}" archive --format=tar.gz "--prefix=lowbit-${version}/" "--output=${archive}" HEAD ${strict})
execute_process(COMMAND "${PYTHON}" cmake/packaging/amalgamate.py "${OUT}/lowbit_all.hpp" ${strict})

set(sums "")
foreach(file "lowbit-${version}.tar.gz" lowbit_all.hpp)
  file(SHA256 "${OUT}/${file}" sum)
  string(APPEND sums "${sum}  ${file}\n")
endforeach()
file(WRITE "${OUT}/SHA256SUMS" "${sums}")

set(url "${URL}")
file(SHA256 "${archive}" sha256)
file(SHA512 "${archive}" sha512)
configure_file("${CMAKE_CURRENT_LIST_DIR}/vcpkg/vcpkg.json.in" "${OUT}/vcpkg/lowbit/vcpkg.json" @ONLY)
configure_file("${CMAKE_CURRENT_LIST_DIR}/vcpkg/portfile.cmake.in" "${OUT}/vcpkg/lowbit/portfile.cmake" @ONLY)
configure_file("${CMAKE_CURRENT_LIST_DIR}/conan/conandata.yml.in" "${OUT}/conan/conandata.yml" @ONLY)
file(COPY "${CMAKE_CURRENT_LIST_DIR}/conan/conanfile.py" DESTINATION "${OUT}/conan")
message(STATUS "lowbit ${version} is in ${OUT}:\n${sums}")
