#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace harness {

// One thing that is wrong with what the user gave (harness/docs/design.md, Errors). Empty fields are left out
// of the text.
struct Problem {
  std::string file;        // as the user named it, or "command line"
  std::string place;       // JSON pointer ("/attack/epsilon"), HDF5 path ("/test/images"), option, line
  std::string found;       // "text \"0.15\""
  std::string expected;    // "a number above 0"
  std::string suggestion;  // nearest valid name, or the command that makes a missing file
};

// "FILE: PLACE: found FOUND, expected EXPECTED; did you mean SUGGESTION?" (one line).
std::string to_text(const Problem& problem);

// User or file error; main() prints every problem on a line of its own and exits 2, without a trace.
class UserError : public std::runtime_error {
 public:
  explicit UserError(Problem problem);
  explicit UserError(std::vector<Problem> problems);  // at least one
  const std::vector<Problem>& problems() const { return problems_; }

 private:
  std::vector<Problem> problems_;
};

// The entry of `names` that `word` most likely meant (edit distance, case ignored); empty when none is near.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names);

// Misuse of an interface inside the program (an approach asking for a split it did not declare): prints the
// message and aborts, which costs the worker its cell and nothing else.
[[noreturn]] void interface_misuse(const std::string& message);

}  // namespace harness
