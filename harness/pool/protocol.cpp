#include "harness/pool/protocol.hpp"

#include <algorithm>

namespace harness {

using nlohmann::json;

json to_json(const std::vector<Problem>& problems) {
  json list = json::array();
  for (const Problem& one : problems) {
    list.push_back({{"file", one.file},
                    {"place", one.place},
                    {"found", one.found},
                    {"expected", one.expected},
                    {"suggestion", one.suggestion}});
  }
  return list;
}

std::vector<Problem> problems_of(const json& value) {
  std::vector<Problem> problems;
  for (const json& one : value) {
    problems.push_back(
        {one.at("file"), one.at("place"), one.at("found"), one.at("expected"), one.at("suggestion")});
  }
  return problems;
}

void throw_if_any(const std::vector<Problem>& problems) {
  std::vector<Problem> different;
  for (const Problem& problem : problems) {
    const bool known = std::any_of(different.begin(), different.end(),
                                   [&](const Problem& other) { return to_text(other) == to_text(problem); });
    if (!known) different.push_back(problem);
  }
  if (!different.empty()) throw UserError(std::move(different));
}

}  // namespace harness
