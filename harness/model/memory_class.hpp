#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace harness {

// How much a device can hold, in classes: what may be computed at once and kept in caches follows from the
// class, never from the memory that happens to be free, so that a run can be repeated. A GPU is large from 32
// GiB on (its whole memory, rounded to GiB); one that does not tell counts as small. Recorded in the
// provenance.
enum class MemoryClass : uint8_t { cpu, cuda_small, cuda_large };
MemoryClass memory_class(at::Device device);
MemoryClass memory_class_of(int64_t gpu_bytes);  // the rule itself
const char* to_text(MemoryClass size);           // "cpu", "cuda small", "cuda large"

// Numbers that the largest values of one computation over many candidates or inputs may have: `on_cpu` on the
// CPU, where that depends on caches; 2^26 on a small GPU, 2^28 on a large one.
int64_t values_together(at::Device device, int64_t on_cpu);
// Bytes of values a search may keep: 4 GiB on the CPU, 2 on a small GPU, 16 on a large one.
int64_t cache_bytes(at::Device device);

}  // namespace harness
