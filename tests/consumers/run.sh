#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds lowbit into other people's projects, each in a temporary folder, and runs them.
#   tests/consumers/run.sh [NAME...]      all of them, or those named; --list says which there are
# CXX (g++) and CC (gcc) compile, with CXXFLAGS: by default without optimization and for the base level alone, since what is tested is the
# way into the build.  Prints a table; exits with 1 if one failed.  What a machine lacks the tools for is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
project=$(cd ../.. && pwd)

consumers=(subproject fetch installed chain pkgconfig make meson bazel single release c c_shared go rust mingw)
usage() { sed -n '3,7s/^# \{0,1\}//p' "$here/run.sh"; }
case "${1-}" in
  --list) printf '%s\n' "${consumers[@]}"; exit 0 ;;
  -h | --help) usage; exit 0 ;;
esac
for name in "$@"; do
  [[ " ${consumers[*]} " == *" $name "* ]] || { echo "run.sh: no consumer is called '$name'; there are: ${consumers[*]}" >&2; exit 2; }
done
(($#)) && consumers=("$@")

export CXX=${CXX:-g++} CC=${CC:-gcc} CXXFLAGS=${CXXFLAGS--O0 -DLOWBIT_PORTABLE} CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CCACHE_BASEDIR=$work
launcher=
if [[ -n ${CMAKE_CXX_COMPILER_LAUNCHER-} ]]; then launcher=$CMAKE_CXX_COMPILER_LAUNCHER; fi

# The project as git sees it, in a repository of its own: without its build folders, with what is not committed yet.
source=$work/lowbit
mkdir "$source"
(cd "$project" && git ls-files -z --cached --others --exclude-standard -- CMakeLists.txt BUILD.bazel WORKSPACE.bazel LICENSE cmake include |
  xargs -0 cp --parents -t "$source")
git -C "$source" init -q -b main
git -C "$source" add -A
git -C "$source" -c user.name=lowbit -c user.email=lowbit@example.invalid commit -q -m 'As it is'

lacks() { for tool in "$@"; do command -v "$tool" >/dev/null || { echo "$tool is not installed"; return 0; }; done; return 1; }

# cmake_project SOURCE BUILD [argument...]: configures, builds and tests.
cmake_project() {
  cmake -S "$1" -B "$2" "${@:3}"
  cmake --build "$2"
  ctest --test-dir "$2" --no-tests=error --output-on-failure
}
# install_lowbit PREFIX [argument...]: once for every prefix.
install_lowbit() {
  [[ -d $1 ]] && return
  local build
  build=$(mktemp -d -p "$work" build.XXXX)
  cmake -S "$source" -B "$build" -DLOWBIT_BUILD_TESTS=OFF -DLOWBIT_BUILD_EXAMPLES=OFF -DLOWBIT_BUILD_BENCH=OFF \
    -DCMAKE_BUILD_TYPE=None -DCMAKE_INSTALL_PREFIX="$1" -DCMAKE_INSTALL_LIBDIR=lib "${@:2}"
  cmake --build "$build"
  cmake --install "$build"
}
# What pkg-config knows is lowbit alone.
pkg() { PKG_CONFIG_LIBDIR="$prefix/share/pkgconfig" pkg-config "$@"; }
prefix=$work/prefix
installed_with_c() { install_lowbit "$prefix" '-DLOWBIT_COMPONENTS=io;c'; }

needs_subproject() { lacks cmake ninja; }
run_subproject() { cmake_project "$here/subproject" build -DLOWBIT_SOURCE="$source"; }

needs_fetch() { lacks cmake ninja; }
run_fetch() { cmake_project "$here/fetch" build -DLOWBIT_REPOSITORY="file://$source"; }

needs_installed() { lacks cmake ninja; }
run_installed() {
  installed_with_c
  cmake_project "$here/installed" build -DCMAKE_PREFIX_PATH="$prefix"
}

needs_chain() { lacks cmake ninja; }
run_chain() {
  installed_with_c
  # lowbit as a folder of the library, installed with it; and found by both.
  cmake -S "$here/chain/library" -B folder -DLOWBIT_SOURCE="$source" -DCMAKE_INSTALL_PREFIX="$PWD/folder_prefix"
  cmake --build folder
  cmake --install folder
  cmake_project "$here/chain/user" folder_user -DCMAKE_PREFIX_PATH="$PWD/folder_prefix"
  cmake -S "$here/chain/library" -B found -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_INSTALL_PREFIX="$PWD/found_prefix"
  cmake --build found
  cmake --install found
  cmake_project "$here/chain/user" found_user "-DCMAKE_PREFIX_PATH=$PWD/found_prefix;$prefix"
}

# shellcheck disable=SC2086,SC2046
run_pkgconfig() {
  installed_with_c
  $launcher $CXX -std=c++20 $CXXFLAGS "$here"/{main,product}.cpp $(pkg --cflags --libs lowbit) -o header_only
  ./header_only
  for file in "$here"/{main,product}.cpp; do
    $launcher $CXX -std=c++20 $CXXFLAGS -DLOWBIT_KERNELS_EXTERN -c "$file" $(pkg --cflags lowbit)
  done
  $launcher $CXX -std=c++20 $CXXFLAGS -c "$(pkg --variable=kernels lowbit)" $(pkg --cflags lowbit)
  $CXX main.o product.o kernels.o $(pkg --libs lowbit) -o with_kernels
  ./with_kernels
  [[ $(pkg --modversion lowbit) == $(pkg --modversion lowbit-c) ]]
}
needs_pkgconfig() { lacks cmake ninja pkg-config; }

needs_make() { lacks make; }
run_make() {
  cp "$here"/make/Makefile "$here"/*.?pp .
  make LOWBIT="$source" CXX="$launcher $CXX"
}

needs_meson() { lacks cmake ninja pkg-config meson; }
run_meson() {
  installed_with_c
  mkdir project
  cp "$here"/meson/meson.build "$here"/*.?pp project
  PKG_CONFIG_LIBDIR=$prefix/share/pkgconfig meson setup --wrap-mode=nodownload project build
  meson test -C build --print-errorlogs
}

# Debian's Bazel 4, which has no network here: its rules are native ones.
needs_bazel() {
  lacks bazel && return
  [[ -d /usr/share/bazel/platforms && -d /usr/share/bazel/rules/java && -d /usr/share/bazel/rules/proto ]] && return 1
  echo 'expected the packages bazel-bootstrap, bazel-platforms, bazel-rules-java and bazel-rules-proto'
}
run_bazel() {
  local rules=/usr/share/bazel flags=() flag
  cp -r "$here"/bazel project
  cp "$here"/*.?pp project
  mv project/rules_cc .
  ln -s "$source" lowbit
  for flag in -std=c++20 $CXXFLAGS; do flags+=("--cxxopt=$flag"); done
  cd project
  bazel --batch --output_user_root="$work/bazel_root" build --jobs=2 "${flags[@]}" \
    --override_repository=rules_cc="$work/bazel/rules_cc" --override_repository=platforms=$rules/platforms \
    --override_repository=rules_java=$rules/rules/java --override_repository=rules_proto=$rules/rules/proto //:all
  bazel-bin/header_only
  bazel-bin/with_kernels
  chmod -R u+w "$work/bazel_root"  # so that it can be removed
}

# lowbit_all.hpp: the preprocessor makes of it what it makes of the headers; in two files of a program, compiled once, and without xsimd,
# at every level.
needs_single() { lacks python3; }
# shellcheck disable=SC2086
run_single() {
  python3 "$source/cmake/packaging/amalgamate.py" lowbit_all.hpp
  local flags all=-DLOWBIT_WITH_IO
  (cd "$source/include" && printf '#include "%s"\n' lowbit/lowbit.hpp lowbit/io/*.hpp) >headers.hpp
  for flags in '' -march=x86-64-v3 -march=x86-64-v4 -DLOWBIT_PORTABLE -DLOWBIT_KERNELS_EXTERN; do
    diff -B <($CXX -std=c++20 $flags -E -P $all -x c++ lowbit_all.hpp | sed 's/^ *//') \
      <($CXX -std=c++20 $flags -E -P -I"$source/include" -x c++ headers.hpp | sed 's/^ *//')
  done
  # The consumers' own files, which know the headers' names.
  mkdir -p include/lowbit/io
  printf '#include "../../lowbit_all.hpp"\n' >include/lowbit/lowbit.hpp
  local page
  for page in "$source"/include/lowbit/io/*.hpp; do
    printf '#define LOWBIT_WITH_IO\n#include "../../../lowbit_all.hpp"\n' >"include/lowbit/io/${page##*/}"
  done
  local sources=("$here"/{main,product}.cpp)
  $launcher $CXX -std=c++20 $CXXFLAGS -pthread -Iinclude "${sources[@]}" -o header_only
  ./header_only
  $launcher $CXX -std=c++20 $CXXFLAGS -pthread -Iinclude "$here/files.cpp" -o files
  ./files
  flags='-O0 -DLOWBIT_WITHOUT_XSIMD'
  $CXX -std=c++20 $flags -DLOWBIT_KERNELS_EXTERN -Iinclude -c "${sources[@]}"
  $launcher $CXX -std=c++20 $flags -DLOWBIT_KERNELS_DEFINE -c -x c++ lowbit_all.hpp -o kernels.o
  $CXX -pthread main.o product.o kernels.o -o without_xsimd
  ./without_xsimd
  LOWBIT_ISA=base ./without_xsimd
}

# The files of a release: the same twice, whole, and a project that unpacks the archive.
needs_release() { lacks cmake ninja python3 sha256sum; }
run_release() {
  for out in first second; do cmake -D OUT="$PWD/$out" -D URL=https://example.invalid -P "$source/cmake/packaging/release.cmake"; done
  diff -r first second
  (cd first && sha256sum --check SHA256SUMS && tar xzf lowbit-*.tar.gz)
  python3 -m py_compile first/conan/conanfile.py
  python3 -m json.tool first/vcpkg/lowbit/vcpkg.json >/dev/null
  cmake_project "$here/subproject" build -DLOWBIT_SOURCE="$(echo "$PWD"/first/lowbit-*/)"
}

# The whole interface from C, compared with the one of C++.
# shellcheck disable=SC2086,SC2046
c_program() {
  $CC -std=c99 -Wall -Wextra -Wconversion -Werror -pedantic -c "$here"/c/{smallest,everything}.c $(pkg --cflags lowbit-c)
  $launcher $CXX -std=c++20 $CXXFLAGS -DLOWBIT_KERNELS_EXTERN -c "$here/c/reference.cpp" $(pkg --cflags lowbit)
  $launcher $CXX -std=c++20 $CXXFLAGS -c "$(pkg --variable=kernels lowbit)" $(pkg --cflags lowbit)
  $CC smallest.o $(pkg "$@" --libs lowbit-c) -o smallest
  $CXX everything.o reference.o kernels.o $(pkg "$@" --libs lowbit-c) -o everything
}
needs_c() { lacks cmake ninja pkg-config "$CC"; }
run_c() {
  installed_with_c
  c_program
  ./smallest
  ./everything "$PWD"
}
needs_c_shared() { lacks cmake ninja pkg-config nm "$CC"; }
run_c_shared() {
  prefix=$work/shared_prefix
  install_lowbit "$prefix" '-DLOWBIT_COMPONENTS=io;c' -DBUILD_SHARED_LIBS=ON
  c_program
  LD_LIBRARY_PATH=$prefix/lib ./smallest
  LD_LIBRARY_PATH=$prefix/lib ./everything "$PWD"
  local other
  other=$(nm -D --defined-only "$prefix/lib/liblowbit_c.so" | awk '$3 !~ /^lowbit_[a-z_0-9]+$/ { print $3 }')
  [[ -z $other ]] || { echo "liblowbit_c.so exports $other"; return 1; }
}

needs_go() { lacks cmake ninja pkg-config go "$CC"; }
run_go() {
  installed_with_c
  cp "$here"/go/* .
  # Go trusts no linker flag but those it knows.
  PKG_CONFIG_LIBDIR=$prefix/share/pkgconfig CGO_LDFLAGS_ALLOW='.*' GOCACHE=$PWD/cache GOFLAGS=-mod=mod GO111MODULE=on go run .
}
needs_rust() { lacks cmake ninja pkg-config rustc "$CC"; }
# shellcheck disable=SC2046
run_rust() {
  installed_with_c
  rustc "$here/rust/main.rs" -L native="$prefix/lib" -C "link-args=$(pkg --libs-only-l --libs-only-other lowbit-c)" -o program
  ./program
}

# Windows, by GCC for it; run under Wine.  With optimization and all levels: what differs there is what registers hold.
needs_mingw() { lacks cmake ninja x86_64-w64-mingw32-g++-posix wine; }
run_mingw() {
  local headers=$work/windows_headers  # of libraries, without those of this system beside them
  mkdir -p "$headers"
  cp -r /usr/include/xsimd /usr/include/nlohmann "$headers"
  CXXFLAGS='' cmake -S "$here/mingw" -B build -DLOWBIT_SOURCE="$source" -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Windows \
    -DCMAKE_CXX_COMPILER=x86_64-w64-mingw32-g++-posix -DLOWBIT_XSIMD_INCLUDE_DIR="$headers" -DHEADERS="$headers"
  cmake --build build
  mkdir out
  WINEDEBUG=-all WINEPREFIX=$work/wine wine build/program.exe out
  WINEDEBUG=-all WINEPREFIX=$work/wine wineserver -k || true
}

rows=()
failed=0
for name in "${consumers[@]}"; do
  began=$SECONDS
  mkdir "$work/$name"
  if why=$("needs_$name"); then
    rows+=("$(printf '%-6s %5s    %s (%s)' skip - "$name" "$why")")
    continue
  fi
  set +e
  (set -e; cd "$work/$name"; "run_$name") >"$work/$name.log" 2>&1
  status=$?
  set -e
  verdict=pass
  if ((status != 0)); then
    verdict=FAIL
    failed=1
    printf '==== %s\n' "$name"
    tail -n 60 "$work/$name.log"
  fi
  rows+=("$(printf '%-6s %5d s  %s' "$verdict" $((SECONDS - began)) "$name")")
done
printf '==== consumers, %s\n' "$($CXX --version | head -n 1)"
printf '%s\n' "${rows[@]}"
exit "$failed"
