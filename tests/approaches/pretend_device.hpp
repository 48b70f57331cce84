#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace harness::testing {

// A device that only pretends to be one: its tensors lie in the host's memory, and the CPU computes, but it
// has the manners of CUDA. Operations on tensors of two devices are refused (numbers and indices excepted), a
// generator of another device too; memory read or written past ATen ends the program; what CUDA asserts of
// batch norm's backward is asserted. What works here stays on its device.
at::Device pretend_device();

// What was asked of the device since the last call, by operator: "aten::mm". "read" counts numbers that were
// read (item()), each of which waits for the device; "accumulate" counts index_put_ that adds.
std::map<std::string, int64_t> take_pretended_calls();

}  // namespace harness::testing
