#pragma once

#include <charconv>
#include <optional>
#include <string>

namespace harness {

// The number that the whole text is; nothing where it is none, or none that the type holds.
template <typename Number>
std::optional<Number> parse_number(const std::string& text) {
  Number number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

}  // namespace harness
