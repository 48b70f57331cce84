#include "harness/measure/memory.hpp"

#if defined(__GLIBC__) && !defined(HARNESS_SANITIZED)
#include <malloc.h>
#endif

namespace harness {

void keep_memory() {
#if defined(__GLIBC__) && !defined(HARNESS_SANITIZED)
  constexpr int kMebibyte = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, 32 * kMebibyte);  // the most glibc accepts
  mallopt(M_TRIM_THRESHOLD, 1024 * kMebibyte);
  // More than the 64 MiB heaps of the other threads, so that empty heaps are kept as well.
  mallopt(M_TOP_PAD, 65 * kMebibyte);
#endif
}

}  // namespace harness
