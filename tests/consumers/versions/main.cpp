// SPDX-License-Identifier: MIT
// Loads the libraries that it is given, in that order, uses them by turns and at the same time, unloads them while a thread that has
// multiplied is still there, and loads the first again.  versions <global|local> <library> <library>
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

namespace {

struct Library {
  void* handle;
  int (*wrong_products)();
  const char* (*version)();
};
Library load(const char* path, int flags) {
  void* const handle = dlopen(path, RTLD_NOW | flags);
  if (handle == nullptr) {
    std::printf("%s\n", dlerror());
    std::exit(1);
  }
  return {handle, reinterpret_cast<int (*)()>(dlsym(handle, "wrong_products")),
          reinterpret_cast<const char* (*)()>(dlsym(handle, "lowbit_version"))};
}
long threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

// In a thread that ends: the loader keeps a library mapped while a thread that lives has thread_local objects of it.
int wrong_in_thread(const Library& library) {
  int wrong = -1;
  std::thread([&] { wrong = library.wrong_products(); }).join();
  return wrong;
}

int failures = 0;
void expect(bool ok, const char* what) {
  std::printf("%s %s\n", ok ? "ok    " : "FAILED", what);
  failures += !ok;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const long threads_before = threads();  // an emulator may have one of its own
  const int flags = std::strcmp(argv[1], "global") == 0 ? RTLD_GLOBAL : RTLD_LOCAL;
  const Library first = load(argv[2], flags);
  expect(wrong_in_thread(first) == 0, "the first library multiplies alone");
  const Library second = load(argv[3], flags);
  std::printf("       versions %s and %s\n", first.version(), second.version());
  expect(std::strcmp(first.version(), second.version()) != 0, "they are two versions");
  for (int i = 0; i < 3; ++i) expect(wrong_in_thread(first) + wrong_in_thread(second) == 0, "both multiply, by turns");
  std::atomic<int> wrong{0};
  std::thread a([&] { wrong += first.wrong_products(); }), b([&] { wrong += second.wrong_products(); });
  a.join();
  b.join();
  expect(wrong == 0, "both multiply at the same time");

  std::atomic<bool> multiplied{false}, unloaded{false};
  std::thread late([&] {
    wrong += first.wrong_products() + second.wrong_products();
    multiplied = true;
    while (!unloaded) std::this_thread::yield();
  });  // its thread_local objects end after dlclose
  while (!multiplied) std::this_thread::yield();
  expect(dlclose(first.handle) == 0, "dlclose of the first");
  expect(wrong_in_thread(second) == 0, "the second multiplies after it");
  expect(dlclose(second.handle) == 0, "dlclose of the second");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a thread whose code is unmapped would die now
  unloaded = true;
  late.join();
  const Library again = load(argv[2], flags);
  expect(wrong_in_thread(again) == 0, "the first multiplies, loaded again");
  expect(dlclose(again.handle) == 0, "dlclose of it");
  const bool mapped = dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD) != nullptr;
  // The system may list a thread for a moment after it was joined.
  for (int i = 0; i < 3000 && !mapped && threads() > threads_before; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::printf("       it is %s; %ld threads\n", mapped ? "kept mapped by the loader" : "unmapped", threads());
  expect(mapped || threads() == threads_before, "no thread is left of an unmapped library");
  if (std::strstr(argv[2], "hidden") != nullptr) expect(!mapped, "a library that hides what it holds is unmapped");
  return failures == 0 ? 0 : 1;
}
