// SPDX-License-Identifier: MIT
// Ends by std::abort in a file without exceptions, which must say why first.
extern "C" void throw_noexcept();
int main() { throw_noexcept(); }
