#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/error.hpp"

namespace harness {

// Parses JSON text strictly: syntax errors (place: line and column), duplicate keys (place: JSON pointer; the
// last one counts) and absurd nesting are appended to `problems`. Nothing after a syntax error.
std::optional<nlohmann::json> parse_json(std::string_view text, const std::string& file,
                                         std::vector<Problem>* problems);

// A value in the words of Problem::found: `text "abc"`, `0.15`, `a list of 3`, `an object`, `null`.
std::string describe(const nlohmann::json& value);
// Quoted, control characters escaped, long text cut.
std::string quote_text(const std::string& text);

// "/a~1b/0" <- ("/a~1b", "0"); escapes ~ and /.
std::string pointer_to(const std::string& parent, const std::string& key);

}  // namespace harness
