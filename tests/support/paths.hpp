// SPDX-License-Identifier: MIT
// Where tests find their files.  What is not part of the project is named by an environment variable or, failing that, by the
// CMake variable of the same name; empty where neither is given, and the test that needs it then says that it was skipped.
#pragma once
#include <cstdlib>
#include <filesystem>

namespace lowbit::testing {

inline std::filesystem::path from_environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

// tests/data: small files that are part of the project.
inline std::filesystem::path data_dir() { return LOWBIT_TEST_DATA; }
// examples/assets: the small model and texts that the examples run on.
inline std::filesystem::path assets_dir() { return LOWBIT_ASSETS; }
// Reference data outside the project; may be empty.
inline std::filesystem::path shared_dir() { return from_environment("LOWBIT_SHARED_DIR", LOWBIT_SHARED_DIR); }
// The full-size models, unpacked; may be empty.
inline std::filesystem::path models_dir() { return from_environment("LOWBIT_MODELS_DIR", LOWBIT_MODELS_DIR); }

}  // namespace lowbit::testing
