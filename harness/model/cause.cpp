#include "harness/model/cause.hpp"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>
#include <sstream>

namespace harness {

std::string cause_of(const std::string& message) {
  const std::string unknown = "Unknown builtin op: ";
  if (const size_t begin = message.find(unknown); begin != std::string::npos) {
    std::string name = message.substr(begin + unknown.size());
    name = name.substr(0, name.find_first_of("\n "));
    if (name.ends_with(".")) name.pop_back();
    return "operator " + name + ", which LibTorch does not have";
  }
  std::istringstream lines(message);
  std::string first, cause;
  for (std::string line; std::getline(lines, line);) {
    if (first.empty() && line.find_first_not_of(" \t") != std::string::npos) first = line;
    // "RuntimeError: text", "torch.jit.Error: text": a name at the beginning of the line.
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    const std::string name = line.substr(0, colon);
    const bool word = std::all_of(name.begin(), name.end(),
                                  [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_'; });
    if (word && (name.ends_with("Error") || name.ends_with("Exception"))) cause = line.substr(colon + 2);
  }
  if (cause.empty()) cause = first;
  return cause.empty() ? "an error without a text" : cause;
}

std::string cause_of(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return cause_of(std::string(torch != nullptr ? torch->what_without_backtrace() : error.what()));
}

}  // namespace harness
