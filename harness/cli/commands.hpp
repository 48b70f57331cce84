#pragma once

#include <string>
#include <vector>

#include "harness/cli/arguments.hpp"

namespace harness::cli {

// One command: its options and what it does. run() returns the exit code (harness/docs/design.md, Exit codes)
// or throws UserError (exit code 2) or ResultsError (4).
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

// The whole program: finds the command (without one: run) or prints help or version. Throws as Command::run.
int dispatch(const std::vector<std::string>& words);

}  // namespace harness::cli
