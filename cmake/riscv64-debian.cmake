# SPDX-License-Identifier: MIT
# Toolchain: riscv64 from Debian's cross compiler; tests run under qemu.
#   apt-get install g++-riscv64-linux-gnu qemu-user-static
#   cmake -B build/riscv64 -DCMAKE_TOOLCHAIN_FILE=cmake/riscv64-debian.cmake ...
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_C_COMPILER riscv64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER riscv64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-riscv64-static -L /usr/riscv64-linux-gnu)
