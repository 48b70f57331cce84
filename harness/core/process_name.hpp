#pragma once

#include <cstdint>
#include <string>

namespace harness {

// Identifies one process among all that ever worked on a results tree.
struct ProcessName {
  // The scope of process numbers: one boot of one machine and one PID namespace, as 16 hexadecimal digits. No
  // host name. Empty if /proc belongs to another namespace, for its numbers then mean other processes.
  std::string place;
  int64_t number = 0;
  std::string started;  // in clock ticks since boot; differs between processes that had the same number
};
ProcessName this_process();

enum class Life {
  alive,
  gone,
  unknown,  // of another place
};
Life life_of(const ProcessName& process);

// `bytes` random bytes of the kernel as hexadecimal digits, for names that no other process on any machine
// has.
std::string random_name(int bytes);

}  // namespace harness
