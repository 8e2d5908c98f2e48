// SPDX-License-Identifier: MIT
// LOWBIT_TEST_SANITIZED: whether the address or thread sanitizer is there, whose own memory and threads would count.
#pragma once

#define LOWBIT_TEST_SANITIZED 0
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#undef LOWBIT_TEST_SANITIZED
#define LOWBIT_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#undef LOWBIT_TEST_SANITIZED
#define LOWBIT_TEST_SANITIZED 1
#endif
#endif
