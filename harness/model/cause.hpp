#pragma once

#include <exception>
#include <string>

namespace harness {

// The cause in a message of PyTorch: of an error inside TorchScript the line that names it ("RuntimeError:
// ..."), behind pages of source text; else the first line. "operator X, which ..." for an unknown operator.
std::string cause_of(const std::string& message);

// The same of an exception, without LibTorch's backtrace.
std::string cause_of(const std::exception& error);

// True for memory that ran out, on the host or the device.
bool is_out_of_memory(const std::exception& error);

// True for errors of a device or its driver: they leave the process without its device, and whether the
// approach is to blame shows only where it has them again in another one. Memory that runs out is none of
// them.
bool is_device_error(const std::exception& error);

// The cause in an exception (cause_of), in one line and without absolute paths.
std::string one_line(const std::exception& error);
std::string one_line(const std::string& text);  // its first line

}  // namespace harness
