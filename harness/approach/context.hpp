#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/approach/fix_log.hpp"
#include "harness/core/catalog.hpp"
#include "harness/core/random.hpp"
#include "harness/core/stop.hpp"
#include "harness/core/training.hpp"
#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// What a fix is about: all that is known before it. Pointers are borrowed and outlive the fix.
struct FixRequest {
  const ApproachInfo* info = nullptr;
  const Network* network = nullptr;  // the original
  const Dataset* data = nullptr;
  Hyperparameters hyperparameters = {};
  std::string shadow = {};  // "AR" of RAND:AR
  uint64_t seed = 0;
  int64_t batch = 250;                                          // inputs per pass through the network
  std::optional<TrainingConfig> training = {};                  // how the original was trained
  std::vector<std::map<std::string, at::Tensor>> history = {};  // parameter sets of it, oldest first
  // Misclassified and correctly classified inputs of the repair split, where it is there.
  std::optional<int64_t> repair_faults = {}, repair_correct = {};
  // How many misclassified inputs each pair of label and prediction has, without those that have none.
  std::optional<std::vector<int64_t>> repair_error_types = {};
};

// A place for the state of an interrupted fix: named tensors, restored bit for bit. The slot may be absent
// (its functions empty, or load() without a value); the run engine decides.
using CheckpointState = std::map<std::string, at::Tensor>;
struct CheckpointSlot {
  std::function<std::optional<CheckpointState>()> load;  // called once, when the context is made
  std::function<void(const CheckpointState&, const FixLog&)> save;
  std::function<bool()> due;  // enough time has passed since the last one
};

// Everything fix() may touch. It sees neither files nor JSON, and no split it did not declare.
class FixContext {
 public:
  struct Setup : FixRequest {
    Stop stop = {};  // out of budget, or a stop signal
    std::function<void(double done, const std::string& what)> progress = {};
    CheckpointSlot checkpoint = {};
  };
  explicit FixContext(Setup setup);

  const FixRequest& request() const { return setup_; }
  const Split& split(const std::string& name) const;  // aborts unless declared in needs or uses, and there
  bool has_split(const std::string& name) const;
  const DatasetInfo& data() const { return setup_.data->info(); }
  const Hyperparameters& hyperparameters() const { return setup_.hyperparameters; }
  const std::string& shadow() const { return setup_.shadow; }
  const std::optional<TrainingConfig>& training() const { return setup_.training; }
  const std::vector<std::map<std::string, at::Tensor>>& history() const { return setup_.history; }
  int64_t batch() const { return setup_.batch; }

  uint64_t seed(std::string_view purpose) const;  // for at::Generator and the like
  RandomStream stream(std::string_view purpose) const;

  // The end of the budget, or a stop signal. Loops ask requested() where they can end with what they have,
  // and check() where they have nothing yet.
  const Stop& stop() const { return setup_.stop; }
  // For what comes before a first result: never requested in a fix that goes on from a checkpoint, whose
  // earlier result a stop would lose.
  Stop preparation_stop() const { return resumed() ? Stop() : stop(); }
  Batching batching() const { return {batch(), preparation_stop()}; }

  bool resumed() const { return !!saved_; }  // goes on from a checkpoint: true from the beginning
  // The checkpoint of an earlier, interrupted run of this fix; nothing where there is none.
  const std::optional<CheckpointState>& load_checkpoint() const { return saved_; }
  // True at a point where a fix could go on from: then save. Where a stop ends a fix, it saves in any case,
  // also where it returns a network: a stop signal throws that away.
  bool checkpoint_due() const { return setup_.checkpoint.due && setup_.checkpoint.due(); }
  void save_checkpoint(const CheckpointState& state) const;

  void progress(double done, const std::string& what) const;
  FixLog& log() { return log_; }

 private:
  Setup setup_;
  FixLog log_;
  std::optional<CheckpointState> saved_;
};

}  // namespace harness
