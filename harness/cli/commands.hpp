#pragma once

#include <string>
#include <vector>

#include "harness/cli/arguments.hpp"

namespace harness {

// One command word: what it takes and what it does. run() returns the exit code (harness/docs/design.md, Exit
// codes) and throws UserError for 2, ResultsError for 4.
struct Command {
  CommandSpec spec;
  int (*run)(const Arguments& arguments) = nullptr;
};

Command run_command();
Command check_command();
Command plan_command();
Command status_command();
Command tables_command();
Command list_command();
Command inspect_command();
Command evaluate_command();
Command fix_command();
Command audit_command();

const std::vector<Command>& commands();

// The whole program: finds the command word (none: run), prints help and version. Throws as Command::run.
int dispatch(const std::vector<std::string>& words);

}  // namespace harness
