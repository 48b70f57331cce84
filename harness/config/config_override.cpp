#include <algorithm>
#include <cctype>

#include "harness/config/config_parts.hpp"
#include "harness/core/json_text.hpp"

namespace harness {

namespace {

using nlohmann::json;

// The parts of a JSON pointer (RFC 6901); nothing where it is none.
std::optional<std::vector<std::string>> split_pointer(const std::string& pointer) {
  if (pointer.empty() || pointer[0] != '/') return std::nullopt;
  std::vector<std::string> tokens;
  for (size_t i = 0; i < pointer.size(); ++i) {
    if (pointer[i] == '/') {
      tokens.emplace_back();
    } else if (pointer[i] != '~') {
      tokens.back() += pointer[i];
    } else {
      if (i + 1 == pointer.size() || (pointer[i + 1] != '0' && pointer[i + 1] != '1')) return std::nullopt;
      tokens.back() += pointer[++i] == '0' ? '~' : '/';
    }
  }
  return tokens;
}

std::optional<size_t> list_index(const std::string& token, size_t size) {
  const bool digits =
      !token.empty() && token.size() < 10 &&
      std::all_of(token.begin(), token.end(), [](unsigned char c) { return std::isdigit(c); });
  if (!digits || (token.size() > 1 && token[0] == '0')) return std::nullopt;
  const size_t index = std::stoul(token);
  return index < size ? std::optional(index) : std::nullopt;
}

// JSON, or plain text where it is none: --set /device=cpu needs no quotes.
json value_of(const std::string& text, const JsonPlace& place) {
  std::vector<Problem> problems;
  std::optional<json> value = parse_json(text, place.file, &problems);
  if (!value) return text;
  for (const Problem& problem : problems) {
    place.problems->push_back(
        {place.file, place.pointer + problem.place, problem.found, problem.expected, ""});
  }
  return *value;
}

}  // namespace

Overrides::Overrides(const std::vector<std::pair<std::string, std::string>>& set,
                     std::vector<Problem>* problems)
    : problems_(problems) {
  for (const auto& [pointer, text] : set) {
    const JsonPlace place{"command line", "--set " + pointer, problems};
    if (const auto tokens = split_pointer(pointer)) {
      overrides_.push_back({pointer, *tokens, value_of(text, place), "", "", false});
    } else {
      place.report(quote_text(pointer), "a JSON pointer such as /runs or /subjects/0/attack/epsilon");
    }
  }
}

bool Overrides::put(json* document, const Override& override, size_t first_token) const {
  const auto refuse = [&](const std::string& found, const std::string& expected, const std::string& near) {
    problems_->push_back({"command line", "--set " + override.pointer, found, expected, near});
    return false;
  };
  json* node = document;
  std::string location;
  for (size_t i = first_token; i < override.tokens.size(); ++i) {
    const std::string& token = override.tokens[i];
    const bool last = i + 1 == override.tokens.size();
    const std::string here = location.empty() ? "the document" : location;
    if (node->is_array()) {
      const auto index = list_index(token, node->size());
      if (!index) {
        return refuse("index " + quote_text(token) + " in " + here,
                      node->empty() ? "no index: the list is empty"
                                    : "a whole number from 0 to " + std::to_string(node->size() - 1),
                      "");
      }
      node = &(*node)[*index];
    } else if (node->is_object()) {
      if (!last && !node->contains(token)) {
        std::vector<std::string> names;
        for (const auto& entry : node->items()) names.push_back(entry.key());
        return refuse("no key " + quote_text(token) + " in " + here, "a key that is there",
                      nearest_name(token, names));
      }
      node = &(*node)[token];
    } else {
      return refuse(describe(*node) + " at " + here, "an object or a list to put the value into", "");
    }
    location = pointer_to(location, token);
  }
  *node = override.value;
  return true;
}

void Overrides::apply_to_config(json* document, const std::string& file) {
  for (Override& override : overrides_) {
    const std::vector<std::string>& tokens = override.tokens;
    if (tokens.size() > 2 && tokens[0] == "subjects" && document->is_object()) {
      const auto subjects = document->find("subjects");
      const auto index = subjects != document->end() && subjects->is_array()
                             ? list_index(tokens[1], subjects->size())
                             : std::nullopt;
      if (index && (*subjects)[*index].is_string()) {
        override.waiting = true;
        continue;
      }
    }
    if (!put(document, override, 0)) continue;
    override.file = file;
    override.location = override.pointer;
  }
}

void Overrides::apply_to_subjects(std::vector<std::optional<SubjectDocument>>* subjects) {
  for (Override& override : overrides_) {
    if (!override.waiting) continue;
    const auto index = list_index(override.tokens[1], subjects->size());
    // gone when a later --set shortened the list, empty when the file could not be read: reported there
    if (!index || !(*subjects)[*index]) continue;
    SubjectDocument& subject = *(*subjects)[*index];
    if (!put(&subject.value, override, 2)) continue;
    override.file = subject.place.file;
    override.location = subject.place.pointer;
    for (size_t i = 2; i < override.tokens.size(); ++i) {
      override.location = pointer_to(override.location, override.tokens[i]);
    }
  }
}

void Overrides::attribute_to_command_line() const {
  for (Problem& problem : *problems_) {
    for (const Override& override : overrides_) {
      const std::string& location = override.location;
      if (location.empty() || problem.file != override.file || !problem.place.starts_with(location)) continue;
      const std::string rest = problem.place.substr(location.size());
      if (!rest.empty() && rest[0] != '/') continue;
      problem.file = "command line";
      problem.place = "--set " + override.pointer + rest;
      break;
    }
  }
}

}  // namespace harness
