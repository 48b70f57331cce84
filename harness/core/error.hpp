#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace harness {

// One thing that is wrong with a user's files or options (harness/docs/design.md, Errors). Empty fields are
// left out of the text.
struct Problem {
  std::string file;        // as the user named it, or "command line"
  std::string place;       // JSON pointer ("/attack/epsilon"), HDF5 path ("/test/images"), option, line
  std::string found;       // "text \"0.15\""
  std::string expected;    // "a number above 0"
  std::string suggestion;  // nearest valid name, or the command that makes a missing file
};

// "FILE: PLACE: found FOUND, expected EXPECTED; did you mean SUGGESTION?" (one line).
std::string to_text(const Problem& problem);

// An error of the user or of a file. main() prints one line for each problem and exits with 2.
class UserError : public std::runtime_error {
 public:
  explicit UserError(Problem problem);
  explicit UserError(std::vector<Problem> problems);  // at least one
  const std::vector<Problem>& problems() const { return problems_; }

 private:
  std::vector<Problem> problems_;
};

// The entry of `names` closest to `word` (edit distance, case ignored); empty if none is close.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names);

// For misuse of an interface inside the program (an approach reads a split that it did not declare): prints
// the message and aborts. The worker process loses its current cell, nothing else.
[[noreturn]] void interface_misuse(const std::string& message);

}  // namespace harness
