#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs from Debian (12 or later) or Ubuntu what building lowbit and its tests needs; with --ci also what .ci/run uses.
# Does nothing where everything is installed already.
set -eu

packages="g++ cmake ninja-build pkg-config libxsimd-dev libeigen3-dev nlohmann-json3-dev libutf8proc-dev
  catch2 libbenchmark-dev libcli11-dev libfmt-dev"
case "${1-}" in
  '') ;;
  --ci) packages="$packages ccache clang-14 clang-19 libclang-rt-19-dev clang-format clang-tidy git python3-numpy
    make meson golang-go g++-mingw-w64-x86-64-posix wine wine64
    bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto" ;;
  *)
    echo "usage: sh cmake/setup-debian.sh [--ci]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup-debian.sh: this system has no apt-get; install the counterparts of these packages by hand:" $packages >&2
  exit 1
fi

missing=
for package in $packages; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup-debian.sh: root is needed for: apt-get install$missing" >&2
    exit 1
  fi
  as_root=sudo
fi

echo "setup-debian.sh: installing$missing"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
