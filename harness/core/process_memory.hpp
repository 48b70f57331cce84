#pragma once

#include <sys/types.h>

namespace harness {

// Resident memory in megabytes (1e6 bytes), as the kernel counts it; 0 where the process is gone or unknown.
double resident_megabytes(pid_t process);
double resident_megabytes();  // of this process

// The most this process has had since the last reset_peak(), or since it started where the kernel does not
// let it be forgotten; 0 where it is unknown.
double peak_megabytes();
void reset_peak();

}  // namespace harness
