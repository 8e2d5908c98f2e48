#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes Debian packages of a finished build, unpacks them into a clean root and uses them there: the programs, and lowbit-dev by CMake and
# pkg-config.
#   tests/packages.sh BUILD [ROOT]
# ROOT: a Debian system of its own (debootstrap --include=g++,cmake,ninja-build,pkg-config), in which apt installs them and everything runs;
# needs to be root.  Without it they are unpacked beside each other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
(($# == 1 || $# == 2)) || { sed -n '3,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 root=${2-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cpack --config "$build/CPackConfig.cmake" -B "$scratch" >"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
packages=("$scratch"/*.deb)
for package in "${packages[@]}"; do
  dpkg-deb --field "$package" Package Version Architecture Depends Installed-Size
  [[ $(dpkg-deb --contents "$package" | awk '{ print $6 }' | grep -vcE '^\./(usr/(bin|include|lib|share)?.*)?$') == 0 ]] ||
    { echo "$package has files outside /usr" >&2; exit 1; }
done

if [[ -n $root ]]; then
  mkdir -p "$root/packages" && cp -r "${packages[@]}" tests/consumers examples/assets "$root/packages"
  in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
  in_root sh -c 'apt-get -qq -y install --no-install-recommends /packages/*.deb'
  prefix=/usr consumers=/packages/consumers assets=/packages/assets out=/packages/out
else
  for package in "${packages[@]}"; do dpkg-deb --extract "$package" "$scratch/root"; done
  in_root() { /usr/bin/env "$@"; }
  prefix=$scratch/root/usr consumers=$PWD/tests/consumers assets=$PWD/examples/assets out=$scratch/out
  export PKG_CONFIG_PATH=$prefix/share/pkgconfig
fi

in_root "$prefix/bin/lowbit-quantize" quantize "$assets/gpt2-mini-ag-news" "$out/nf4" --overwrite
in_root "$prefix/bin/lowbit-generate" "$out/nf4" 'Shares rose' --tokens 3
in_root cmake -S "$consumers/installed" -B "$out/build" -G Ninja "-DCMAKE_PREFIX_PATH=$prefix" -DCMAKE_CXX_FLAGS=-DLOWBIT_PORTABLE
in_root cmake --build "$out/build"
in_root ctest --test-dir "$out/build" --no-tests=error --output-on-failure
in_root sh -c 'cc -std=c99 "$1" $(pkg-config --cflags --libs lowbit-c) -o "$2" && "$2"' sh "$consumers/c/smallest.c" "$out/in_c"
[[ $(in_root pkg-config --modversion lowbit) == $(dpkg-deb --field "${packages[0]}" Version) ]]
echo 'packages: right'
