#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "approaches/stop.hpp"
#include "harness/core/catalog.hpp"
#include "harness/core/config.hpp"
#include "harness/core/random.hpp"
#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// Why an approach cannot be applied, or found no fix: "code: text" in tables (codes:
// approaches/docs/README.md, Status).
struct Refusal {
  std::string code;
  std::string text;
};

// What fix() writes down of itself; goes into the record.
struct FixLog {
  std::map<std::string, double> phases;               // seconds, of timers that have ended
  std::map<std::string, int64_t> counters;            // "evaluations", "optimiser_steps"
  std::map<std::string, double> scalars;              // "front_size", "best_fitness"
  std::map<std::string, std::vector<double>> series;  // "best_fitness" per generation
  std::multimap<std::string, std::chrono::steady_clock::time_point> running;  // timers that have not

  // `phases` with what the running timers have added so far; a checkpoint keeps them.
  std::map<std::string, double> phases_so_far() const;
};

// Adds the seconds of its lifetime to a phase.
class PhaseTimer {
 public:
  PhaseTimer(FixLog& log, std::string phase);
  ~PhaseTimer();
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  FixLog& log_;
  std::multimap<std::string, std::chrono::steady_clock::time_point>::iterator entry_;
};

// A place for the state of an interrupted fix: named tensors, restored bit for bit. The slot may be absent
// (its functions empty, or load() without a value); the run engine decides.
using CheckpointState = std::map<std::string, at::Tensor>;
struct CheckpointSlot {
  std::function<std::optional<CheckpointState>()> load;  // asked once, when the context is made
  std::function<void(const CheckpointState&, const FixLog&)> save;
  std::function<bool()> due;  // enough time has passed since the last one
};

// Everything fix() may touch. It sees neither files nor JSON, and no split it did not declare.
class FixContext {
 public:
  struct Setup {
    const ApproachInfo* info = nullptr;
    const Dataset* data = nullptr;
    Parameters parameters;
    std::string shadow;  // "AR" of RAND:AR
    uint64_t seed = 0;
    std::function<bool()> stop;  // true: out of budget or asked to stop
    std::function<void(double done, const std::string& what)> progress;
    CheckpointSlot checkpoint;
    std::optional<TrainingConfig> training;
    std::vector<std::map<std::string, at::Tensor>> history;  // parameter sets, oldest first
    int64_t batch = 250;
  };
  explicit FixContext(Setup setup);

  const Split& split(const std::string& name) const;  // aborts unless declared in needs or uses, and there
  bool has_split(const std::string& name) const;
  const DatasetInfo& data() const { return setup_.data->info(); }
  const Parameters& parameters() const { return setup_.parameters; }
  const std::string& shadow() const { return setup_.shadow; }
  uint64_t seed(std::string_view purpose) const;  // for at::Generator and the like
  RandomStream stream(std::string_view purpose) const;
  bool should_stop() const;                  // from any thread
  bool was_stopped() const;                  // should_stop() has answered true, or a poll has thrown
  Poll poll() const;                         // throws FixStopped when should_stop()
  bool resumed() const { return !!saved_; }  // goes on from a checkpoint: true from the beginning
  // The same as poll() for what comes before a first result: empty in a fix that goes on from a checkpoint,
  // whose earlier result a stop would lose.
  Poll preparing() const { return resumed() ? Poll() : poll(); }
  Passes passes() const { return {batch(), preparing()}; }
  void progress(double done, const std::string& what) const;
  // The checkpoint of an earlier, interrupted run of this fix; nothing where there is none.
  const std::optional<CheckpointState>& load_checkpoint() const { return saved_; }
  // Ask at every point where a fix could go on from, and save where true. When should_stop() ends a fix, it
  // saves without asking, also where it returns a network: a stop signal throws that away.
  bool checkpoint_due() const { return setup_.checkpoint.due && setup_.checkpoint.due(); }
  void save_checkpoint(const CheckpointState& state) const;
  const std::optional<TrainingConfig>& training() const { return setup_.training; }
  const std::vector<std::map<std::string, at::Tensor>>& history() const { return setup_.history; }
  int64_t batch() const { return setup_.batch; }
  FixLog& log() { return log_; }

 private:
  Setup setup_;
  FixLog log_;
  std::optional<CheckpointState> saved_;
  mutable bool was_stopped_ = false;
  mutable std::mutex stopping_;
};

// Which weights a fix says it may have changed; the harness checks that all others are bit-identical.
struct Touched {
  bool everything = false;
  std::map<std::string, std::vector<int64_t>> weights;  // parameter name -> flat indices; empty: all of it
};

struct FixResult {
  std::optional<Network> network;  // absent: FAILURE with `failure`
  Refusal failure;
  Touched touched;
  std::string note;  // "returned the original: no candidate was better"
};

// What adapt() may look at, before any work.
struct AdaptContext {
  const Network& network;
  const Dataset& data;
  const Parameters& parameters;
  const std::string& shadow;
  const std::optional<TrainingConfig>& training;
  size_t history_size = 0;
  // Misclassified and correctly classified inputs of the repair split, where it is there.
  std::optional<int64_t> repair_faults = std::nullopt;
  std::optional<int64_t> repair_correct = std::nullopt;
  // How many misclassified inputs each pair of label and prediction has, without those that have none.
  std::optional<std::vector<int64_t>> repair_error_types = std::nullopt;
};

// An approach: a record of functions, made known by one static object in its source file:
//   const bool registered = register_approach({.info = ..., .adapt = ..., .fix = ...});
// The harness itself answers missing_split for `info.needs` before adapt() is asked.
struct Approach {
  ApproachInfo info;
  std::function<std::optional<Refusal>(const AdaptContext&)> adapt;
  // `original` may be read and forked, not changed.
  std::function<FixResult(const Network& original, FixContext&)> fix;
  // What controls ask of the approach they shadow; each may be left out, the control is then UNADAPTABLE.
  // RAND:KEY: the same search, on as many weights drawn at random as fix() would have chosen itself. The
  // parameters are those of this approach, and ctx.parameters() those of the control.
  std::function<FixResult(const Network& original, FixContext&, const Parameters&)> fix_on_random_weights =
      {};
  // CT:KEY: the fix itself, run for the number of optimiser steps on images that it makes and logs as the
  // counter "optimiser_steps"; parameters as above.
  std::function<FixResult(const Network& original, FixContext&, const Parameters&)> fix_for_its_steps = {};
  // Of a control (info.shadows): whether it can do anything with that approach.
  std::function<bool(const Approach& other)> can_imitate = {};
};

// Misuse: a key that is taken, a missing function, a declared test split. Always true.
bool register_approach(Approach approach);
const std::vector<Approach>& approaches();  // sorted by key
const Approach* find_approach(const std::string& key);
Catalog approach_catalog();  // with `imitates` of the controls filled in
// The defaults of `info`, replaced by the values of the same name in `given`: what a control hands on. A null
// that `info` does not allow counts as not given.
Parameters parameters_of(const ApproachInfo& info, const Parameters& given);

}  // namespace harness
