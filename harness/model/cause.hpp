#pragma once

#include <exception>
#include <string>

namespace harness {

// The cause in a message of PyTorch: of an error inside TorchScript the line that names it ("RuntimeError:
// ..."), behind pages of source text; else the first line. "operator X, which ..." for an unknown operator.
std::string cause_of(const std::string& message);

// The same of an exception, without LibTorch's backtrace.
std::string cause_of(const std::exception& error);

}  // namespace harness
