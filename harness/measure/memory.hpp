#pragma once

namespace harness {

// Tells glibc to keep freed memory: an attack allocates and frees the same few megabytes thousands of times,
// and giving them back to the system each time costs a page fault per 4 KiB (measured: half of an attack's
// time). For main(), before the first large allocation and before threads start. Does nothing under
// sanitizers and with other C libraries.
void keep_memory();

}  // namespace harness
