#pragma once

namespace harness {

// Makes glibc keep freed memory. An attack allocates and frees the same few megabytes thousands of times;
// giving them back to the system each time costs a page fault per 4 KiB (measured: half of an attack's time).
// main() calls it before the first large allocation and before threads start. Does nothing under sanitizers
// and with other C libraries.
void keep_memory();

}  // namespace harness
