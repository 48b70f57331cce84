#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/approach/context.hpp"
#include "harness/core/catalog.hpp"
#include "harness/model/network.hpp"

namespace harness {

// Why an approach cannot be applied, or found no fix: "code: text" in tables (codes:
// approaches/docs/README.md, Status).
struct Refusal {
  std::string code;
  std::string text;
};

// Which weights a fix says it may have changed; the harness checks that all others are bit-identical.
struct Touched {
  bool everything = false;
  std::map<std::string, std::vector<int64_t>> weights;  // parameter name -> flat indices; empty: all of it
};

struct FixResult {
  std::optional<Network> network = std::nullopt;  // absent: FAILURE with `failure`
  Refusal failure = {};
  Touched touched = {};
  std::string note = {};  // "returned the original: no candidate was better"
  // Of approaches that are another process (harness/external): `failure` means UNADAPTABLE, and the seconds
  // that process took, which are the fix's; absent: those of fix().
  bool unadaptable = false;
  std::optional<double> seconds = std::nullopt;
};

// An approach: a record of functions, made known by one static object in its source file:
//   const bool registered = register_approach({.info = ..., .adapt = ..., .fix = ...});
// The harness itself answers missing_split for `info.needs` before adapt() is called.
struct Approach {
  ApproachInfo info;
  // Why it cannot be applied, before any work; nothing where it can.
  std::function<std::optional<Refusal>(const FixRequest&)> adapt;
  // `original` may be read and forked, not changed.
  std::function<FixResult(const Network& original, FixContext&)> fix;
  // What controls need of the approach they shadow; each may be left out, the control is then UNADAPTABLE.
  // RAND:KEY: the same fix with another locator, which draws at random as many weights as that of fix() would
  // choose. The hyperparameters are those of this approach, context.hyperparameters() those of the control.
  std::function<FixResult(const Network& original, FixContext&, const Hyperparameters&)>
      fix_with_random_locator = {};
  // CT:KEY: the fix itself, run for the number of optimiser steps on images that it makes and logs as the
  // counter "optimiser_steps"; hyperparameters as above.
  std::function<FixResult(const Network& original, FixContext&, const Hyperparameters&)> fix_for_its_steps =
      {};
  // Of a control (info.shadows): whether it can do anything with that approach.
  std::function<bool(const Approach& other)> can_imitate = {};
  // The work is done by another process: nothing is warmed up for it, and this process's memory is not its.
  bool in_other_process = false;
};

// Misuse: a key that is taken, a missing function, a declared test split. Always true.
bool register_approach(Approach approach);
const std::vector<Approach>& approaches();  // sorted by key
const Approach* find_approach(const std::string& key);
Catalog approach_catalog();  // with `imitates` of the controls filled in
// The defaults of `info`, replaced by the values of the same name in `given`: what a control hands on. A null
// that `info` does not allow counts as not given.
Hyperparameters hyperparameters_of(const ApproachInfo& info, const Hyperparameters& given);

}  // namespace harness
