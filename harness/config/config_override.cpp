#include "harness/config/config_parts.hpp"
#include "harness/core/json_text.hpp"

namespace harness {

namespace {

using nlohmann::json;
using Pointer = json::json_pointer;

// Whether the document has a value there. "-" and numbers with a leading zero are no index of a list.
bool is_there(const json& document, const Pointer& pointer) {
  try {
    return document.contains(pointer);
  } catch (const json::exception&) {  // an index too large for any integer, or an empty one
    return false;
  }
}

bool is_pointer(const std::string& text) {
  try {
    return !Pointer(text).empty();
  } catch (const json::parse_error&) {
    return false;
  }
}

// JSON, or else plain text: --set /device=cpu needs no quotes.
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

// The length of "/subjects/0" in a pointer into a subject; npos for other pointers.
size_t end_of_subject(const std::string& pointer) {
  const std::string subjects = "/subjects/";
  return pointer.starts_with(subjects) ? pointer.find('/', subjects.size()) : std::string::npos;
}

}  // namespace

Overrides::Overrides(const std::vector<std::pair<std::string, std::string>>& set,
                     std::vector<Problem>* problems)
    : problems_(problems) {
  for (const auto& [pointer, text] : set) {
    const JsonPlace place{"command line", "--set " + pointer, problems};
    if (is_pointer(pointer)) {
      overrides_.push_back({pointer, value_of(text, place)});
    } else {
      place.report(quote_text(pointer), "a JSON pointer such as /runs or /subjects/0/attack/epsilon");
    }
  }
}

bool Overrides::put(json* document, const Override& override, const std::string& inner) const {
  const Pointer pointer(inner);
  Pointer missing = pointer;  // the shortest part of it that is not there, or all of it
  while (!is_there(*document, missing.parent_pointer())) missing.pop_back();
  const json& parent = document->at(missing.parent_pointer());
  if (missing == pointer && (parent.is_object() || (parent.is_array() && is_there(*document, pointer)))) {
    (*document)[pointer] = override.value;
    return true;
  }
  const std::string& token = missing.back();
  const std::string where =
      missing.parent_pointer().empty() ? "the document" : missing.parent_pointer().to_string();
  const JsonPlace place{"command line", "--set " + override.pointer, problems_};
  if (parent.is_array()) {
    place.report("index " + quote_text(token) + " in " + where,
                 parent.empty() ? "no index: the list is empty"
                                : "a whole number from 0 to " + std::to_string(parent.size() - 1));
  } else if (parent.is_object()) {
    std::vector<std::string> names;
    for (const auto& entry : parent.items()) names.push_back(entry.key());
    place.report("no key " + quote_text(token) + " in " + where, "a key that is there",
                 nearest_name(token, names));
  } else {
    place.report(describe(parent) + " at " + where, "an object or a list to put the value into");
  }
  return false;
}

void Overrides::apply_to_config(json* document, const std::string& file) {
  for (Override& override : overrides_) {
    const size_t end = end_of_subject(override.pointer);
    if (end != std::string::npos) {
      const Pointer subject(override.pointer.substr(0, end));
      const bool in_list = is_there(*document, subject) && document->at("subjects").is_array();
      if (in_list && document->at(subject).is_string()) {
        override.subject = std::stoul(subject.back());
        continue;
      }
    }
    if (!put(document, override, override.pointer)) continue;
    override.file = file;
    override.location = override.pointer;
  }
}

void Overrides::apply_to_subjects(std::vector<std::optional<SubjectDocument>>* subjects) {
  for (Override& override : overrides_) {
    // a later --set may have shortened the list
    if (!override.subject || *override.subject >= subjects->size()) continue;
    std::optional<SubjectDocument>& subject = (*subjects)[*override.subject];  // empty: could not be read
    const std::string inner = override.pointer.substr(end_of_subject(override.pointer));
    if (!subject || !put(&subject->value, override, inner)) continue;
    override.file = subject->place.file;
    override.location = subject->place.pointer + inner;
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
