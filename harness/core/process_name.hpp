#pragma once

#include <cstdint>
#include <string>

namespace harness {

// One process among all that ever worked on a results tree.
struct ProcessName {
  // Where process numbers mean the same, as 16 hexadecimal digits: one start of one machine, one name space;
  // no host name. Empty where /proc is not that of this name space: numbers found there say nothing.
  std::string place;
  int64_t number = 0;
  std::string
      started;  // in clock ticks since the machine did: tells apart who used a number one after another
};
ProcessName this_process();

enum class Life {
  alive,
  gone,
  unknown,  // of another place: nothing here can tell
};
Life life_of(const ProcessName& process);

// `bytes` random bytes of the kernel, as hexadecimal digits: for names and tokens that no other process has,
// wherever it runs.
std::string random_name(int bytes);

}  // namespace harness
