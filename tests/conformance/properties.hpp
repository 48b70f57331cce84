#pragma once

#include <string>
#include <vector>

#include "tests/conformance/case.hpp"

namespace harness::testing {

// What an approach has to keep to. Each returns its complaints, one a line; none means that all is well.
using Complaints = std::vector<std::string>;
std::string lines_of(const Complaints& complaints);

// Polls of an undisturbed fix that a stop is tried at: `most` of them, seeded, the first and last included.
struct StopsTried {
  int64_t polls = 0;
  std::vector<int64_t> at;
};
StopsTried stops_of(const Case& one, int maximum);

// A stop at any of these polls ends in a model that can be used, or in FAILURE timeout; soon, after a few
// polls and without taking more memory. A search whose first population was not complete has no model.
Complaints stop_complaints(const Case& one, const StopsTried& stops);

// Going on from the checkpoint that such a stop left, and from those that are written on the way, gives the
// undisturbed fix, bit for bit.
Complaints resume_complaints(const Case& one, const StopsTried& stops);

// A resumed fix that is told to stop at once still has what the first stop left: a network where that one had
// one, and a way to the undisturbed fix.
Complaints second_stop_complaints(const Case& one, const StopsTried& stops);

// The same seed gives the same fix. Another one gives another, exactly where the approach draws.
Complaints seed_complaints(const Case& one, bool draws);

// What changed is declared, what is declared exists, values are finite, shapes stay.
Complaints touched_complaints(const Network& original, const FixResult& result);
Complaints touched_complaints(const Case& one);

// Limits that the parameters set: a smaller one never means more work, and less where there is any.
Complaints work_complaints(const Case& one);

// Where time or memory run out at once: a model, or the FAILURE that says so, soon and without much more of
// it.
Complaints budget_complaints(const Case& one);

// Either adapt() says no, at once and with a known code; or a fix ends in a model or a named FAILURE, and one
// that adapt() could have known is named before any work.
Complaints refusal_complaints(const Case& one);

// Nothing is written to standard output or standard error.
Complaints print_complaints(const Case& one);

// The original, the data, the history and the state of LibTorch (threads, gradients, default generator) are
// as they were; what the test split holds makes no difference, and neither does its absence.
Complaints side_effect_complaints(const Case& one);

// Hyperparameters have a default within their range, a unit, and a source that a reader can open.
Complaints parameter_complaints(const ApproachInfo& info);

// Key, name, publication, splits.
Complaints info_complaints(const ApproachInfo& info);

// RAND:KEY and CT:KEY: advertised and working, or a refusal that names KEY.
Complaints control_complaints(const Approach& control, const Approach& other);

}  // namespace harness::testing
