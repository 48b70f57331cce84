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

// Which weights a fix may have changed. The harness checks that all others are the same bit for bit.
struct Touched {
  bool everything = false;
  std::map<std::string, std::vector<int64_t>> weights;  // parameter name -> flat indices; empty: all of it
};

struct FixResult {
  std::optional<Network> network = std::nullopt;  // absent: FAILURE with `failure`
  Refusal failure = {};
  Touched touched = {};
  std::string note = {};  // "returned the original: no candidate was better"
  // `unadaptable`, without a network: the status is UNADAPTABLE, with `failure` as its reason, for what
  // adapt() cannot know: what another process says (harness/external), or a control that turns out to have no
  // choice. `seconds`: how long an approach in another process took; absent: the time of fix() counts.
  bool unadaptable = false;
  std::optional<double> seconds = std::nullopt;
};

// An approach is a record of functions. A static object in its source file registers it:
//   const bool registered = register_approach({.info = ..., .adapt = ..., .fix = ...});
// Where a split of `info.needs` is absent, the harness says missing_split and does not call adapt().
struct Approach {
  ApproachInfo info;
  // Returns why the approach cannot be applied, before any work; nothing where it can.
  std::function<std::optional<Refusal>(const FixRequest&)> adapt;
  // Makes the fix. `original` may be read and forked, but not changed.
  std::function<FixResult(const Network& original, FixContext&)> fix;
  // The next two are called by controls that imitate this approach. Without them the control is UNADAPTABLE.
  // RAND:KEY: the same fix with another locator, which draws as many weights at random as that of fix() would
  // choose. The last argument has the hyperparameters of this approach, context.hyperparameters() those of
  // the control.
  std::function<FixResult(const Network& original, FixContext&, const Hyperparameters&)>
      fix_with_random_locator = {};
  // CT:KEY: the fix itself. The control runs it to learn how many optimiser steps on images it makes, and
  // reads them from the counter "optimiser_steps". Hyperparameters as above.
  std::function<FixResult(const Network& original, FixContext&, const Hyperparameters&)> fix_for_its_steps =
      {};
  // Only for controls (info.shadows): whether this control can imitate `other`.
  std::function<bool(const Approach& other)> can_imitate = {};
  // fix() only waits for another process: there is no warm-up, and this process's memory is not measured.
  bool in_other_process = false;
};

// Always true. It is a misuse to register a key twice, without adapt or fix, or with the test split.
bool register_approach(Approach approach);
const std::vector<Approach>& approaches();  // sorted by key
const Approach* find_approach(const std::string& key);
Catalog approach_catalog();  // every `info`, with `imitates` of the controls filled in
// Hyperparameters that a control hands on to the approach it imitates: the values of the same name in
// `given`, else the defaults of `info`. A null counts as not given unless `info` allows it.
Hyperparameters hyperparameters_of(const ApproachInfo& info, const Hyperparameters& given);

}  // namespace harness
