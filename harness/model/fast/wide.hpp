#pragma once

// Our sources are built for any x86-64; a plain loop marked HARNESS_WIDE is compiled a second time for wide
// vectors (AVX2), and the program chooses when it starts. The loop must not depend on how it is vectorised:
// no sums, no fused operations. Gain of a sum of two rows that the first-level cache holds
// (build/bench_fast): 1.5 times. Not under sanitizers, whose runtime is not ready when the choice is made.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(HARNESS_SANITIZED)
#define HARNESS_WIDE __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define HARNESS_WIDE
#endif
