#pragma once

#include <sys/types.h>

namespace harness {

// Resident memory in megabytes (1e6 bytes), as the kernel counts it; 0 if the process does not exist.
double resident_megabytes(pid_t process);
double resident_megabytes();  // of this process

// Largest resident memory of this process since reset_peak(), or since its start if the kernel does not allow
// a reset; 0 if unknown.
double peak_megabytes();
void reset_peak();

}  // namespace harness
