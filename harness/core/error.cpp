#include "harness/core/error.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>

namespace harness {

namespace {

std::string lower(const std::string& word) {
  std::string result = word;
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return result;
}

// Edit distance in which swapping two neighbours is one step (optimal string alignment).
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = previous[j - 1] + (a[i - 1] != b[j - 1]);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string joined(const std::vector<Problem>& problems) {
  if (problems.empty()) interface_misuse("a UserError without a problem");
  std::string text;
  for (const Problem& problem : problems) {
    if (!text.empty()) text += '\n';
    text += to_text(problem);
  }
  return text;
}

}  // namespace

std::string to_text(const Problem& problem) {
  std::string text;
  for (const std::string* part : {&problem.file, &problem.place}) {
    if (!part->empty()) text += *part + ": ";
  }
  if (!problem.found.empty()) text += "found " + problem.found;
  if (!problem.expected.empty()) {
    if (!problem.found.empty()) text += ", ";
    text += "expected " + problem.expected;
  }
  if (!problem.suggestion.empty()) {
    const bool is_command = problem.suggestion.starts_with("scripts/");
    const bool is_sentence = problem.suggestion.find(' ') != std::string::npos;
    text += is_command    ? "; to make it: " + problem.suggestion
            : is_sentence ? "; " + problem.suggestion
                          : "; did you mean " + problem.suggestion + "?";
  }
  // one problem is one line, even if a key or a file name has a line break
  std::replace_if(
      text.begin(), text.end(), [](unsigned char letter) { return letter < 0x20; }, ' ');
  return text;
}

UserError::UserError(Problem problem) : UserError(std::vector<Problem>{std::move(problem)}) {}

UserError::UserError(std::vector<Problem> problems)
    : std::runtime_error(joined(problems)), problems_(std::move(problems)) {}

std::string nearest_name(const std::string& word, const std::vector<std::string>& names) {
  const std::string wanted = lower(word);
  std::string best;
  size_t best_distance = 0;
  for (const std::string& name : names) {
    const std::string candidate = lower(name);
    size_t steps = distance(wanted, candidate);
    const size_t longest = std::max(wanted.size(), candidate.size());
    const bool abbreviates = wanted.size() >= 3 && candidate.starts_with(wanted);
    const size_t allowed = std::max<size_t>(1, longest / 3);
    if (steps == longest || (steps > allowed && !abbreviates)) continue;  // nothing in common, or too little
    if (abbreviates) steps = std::min(steps, allowed);
    if (best.empty() || steps < best_distance) {
      best = name;
      best_distance = steps;
    }
  }
  return best;
}

void interface_misuse(const std::string& message) {
  std::fprintf(stderr, "harness: misuse of an interface: %s\n", message.c_str());
  std::abort();
}

}  // namespace harness
