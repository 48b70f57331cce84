#include "harness/model/cause.hpp"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <initializer_list>
#include <new>
#include <sstream>

namespace harness {
namespace {

bool holds_any(const std::string& text, std::initializer_list<const char*> signs) {
  return std::any_of(signs.begin(), signs.end(),
                     [&](const char* sign) { return text.find(sign) != std::string::npos; });
}

}  // namespace

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

std::string one_line(const std::exception& error) {
  return one_line(cause_of(error));
}

std::string one_line(const std::string& text) {
  std::istringstream words(text.substr(0, text.find('\n')));
  std::string result;
  for (std::string word; words >> word;) {
    const size_t slash = word.find_first_not_of("\"'(");
    if (slash != std::string::npos && word[slash] == '/')
      word = std::filesystem::path(word).filename().string();
    result += (result.empty() ? "" : " ") + word;
  }
  return result.empty() ? "an error without a text" : result;
}

// LibTorch's CPU allocator and the CUDA libraries throw a plain c10::Error.
bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         holds_any(error.what(),
                   {"not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED"});
}

bool is_device_error(const std::exception& error) {
  if (is_out_of_memory(error)) return false;
  if (dynamic_cast<const c10::AcceleratorError*>(&error) != nullptr) return true;
  return holds_any(error.what(),
                   {"CUDA error", "CUDA driver error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS"});
}

}  // namespace harness
