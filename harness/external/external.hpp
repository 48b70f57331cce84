#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "harness/approach/approach.hpp"
#include "harness/config/config.hpp"

namespace harness::external {

// What a program gets to know of its subject, beside the request of the fix. References outlive the approach.
struct ExternalSetting {
  const SubjectConfig& subject;  // model and history as files
  std::function<Network(const std::filesystem::path&)> load_model;
  Budget budget;
  double seconds_before = 0;      // of the budget, that an interrupted run has used up
  std::filesystem::path scratch;  // may be filled, and is made where it is absent; when an interrupted fix
                                  // goes on, it holds what was there, under another name
};

// A program of somebody else's as an approach (scripts/examples/README.md). adapt() never refuses. fix()
// writes a request file into the scratch folder, starts the program with its path as last argument, waits,
// reads its report and its fixed model. The program's process time is the fix's time, the phases of its
// report are the log's.
//
// Whatever the program does becomes a result: a failure crashed (exit code, signal, no report, a report or a
// model that cannot be read, with the end of its standard error), timeout, out_of_memory, or the status of
// its report. A stop signal (core/stop_signals.hpp) is passed on as SIGTERM; a program that does not end
// within a grace period is killed; then a checkpoint is saved, Interrupted is thrown and the scratch folder
// keeps what the program left there for the next time. Throws UserError where the program cannot be started
// or the request not be written.
Approach external_approach(const ApproachConfig& entry, ExternalSetting setting);

}  // namespace harness::external
