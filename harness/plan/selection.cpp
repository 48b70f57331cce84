#include "harness/plan/selection.hpp"

#include <cstdlib>

#include "harness/core/error.hpp"
#include "harness/core/parse_number.hpp"

namespace harness::plan {
namespace {

bool matches_from(const std::string& glob, size_t g, const std::string& text, size_t t) {
  for (; g < glob.size(); ++g, ++t) {
    if (glob[g] == '*') {
      for (size_t skip = t; skip <= text.size(); ++skip) {
        if (matches_from(glob, g + 1, text, skip)) return true;
      }
      return false;
    }
    if (t >= text.size() || (glob[g] != '?' && glob[g] != text[t])) return false;
  }
  return t == text.size();
}

std::optional<int64_t> variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const auto value = parse_number<int64_t>(text);
  if (!value) throw UserError({"environment", name, '"' + std::string(text) + '"', "a whole number", ""});
  return value;
}

}  // namespace

bool matches(const std::string& glob, const std::string& text) {
  return matches_from(glob, 0, text, 0);
}

Shard choose_shard(const std::optional<std::string>& option) {
  if (option) {
    const size_t slash = option->find('/');
    const auto index = parse_number<int64_t>(option->substr(0, slash));
    const auto count =
        slash == std::string::npos ? std::nullopt : parse_number<int64_t>(option->substr(slash + 1));
    if (!index || !count || *index < 1 || *count < *index) {
      throw UserError({"command line", "--shard", '"' + *option + '"', "part/parts, from 1/4 to 4/4", ""});
    }
    return {*index, *count};
  }
  const auto id = variable("SLURM_ARRAY_TASK_ID"), first = variable("SLURM_ARRAY_TASK_MIN"),
             last = variable("SLURM_ARRAY_TASK_MAX"), count = variable("SLURM_ARRAY_TASK_COUNT");
  if (!id && !first && !last && !count) return {};
  if (!id || !first || !last || !count || *first < 0 || *last < *first || *id < *first || *id > *last ||
      *count > *last - *first + 1) {
    throw UserError({"environment", "SLURM_ARRAY_TASK_*", "an incomplete array",
                     "ID, MIN, MAX and COUNT of one array, or --shard i/n", ""});
  }
  const bool has_gaps = *last - *first + 1 != *count;
  return {has_gaps ? 0 : *id - *first + 1, has_gaps ? 0 : *count, *id};
}

}  // namespace harness::plan
