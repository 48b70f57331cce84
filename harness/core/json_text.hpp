#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/error.hpp"

namespace harness {

// Parses JSON text strictly. Syntax errors (place: line and column), duplicate keys (place: JSON pointer; the
// last value counts) and too deep nesting are appended to `problems`. Returns nullopt on a syntax error.
std::optional<nlohmann::json> parse_json(std::string_view text, const std::string& file,
                                         std::vector<Problem>* problems);

// A value as Problem::found shows it: `text "abc"`, `0.15`, `a list of 3`, `an object`, `null`.
std::string describe(const nlohmann::json& value);
// In quotes, with control characters escaped; long text is cut.
std::string quote_text(const std::string& text);

// The pointer of a key below `parent`: ("/a~1b", "0") -> "/a~1b/0". Escapes ~ and / of the key.
std::string pointer_to(const std::string& parent, const std::string& key);

}  // namespace harness
