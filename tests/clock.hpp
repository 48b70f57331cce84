#pragma once

#include <ctime>

namespace harness::testing {

// Seconds of computing of this process, all threads together: steadier than seconds beside other work.
inline double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace harness::testing
