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

// What is known before a fix. Pointers are borrowed and outlive the fix.
struct FixRequest {
  const ApproachInfo* info = nullptr;
  const Network* network = nullptr;  // the original
  const Dataset* data = nullptr;
  Hyperparameters hyperparameters = {};
  std::string shadow = {};  // "AR" for RAND:AR; else empty
  uint64_t seed = 0;
  int64_t batch = 250;                                          // inputs for one pass through the network
  std::optional<TrainingConfig> training = {};                  // how the original was trained
  std::vector<std::map<std::string, at::Tensor>> history = {};  // parameters on the way, oldest first
  std::vector<std::string> history_names = {};  // of their files, for messages; empty: not known
  // How many inputs of the repair split the original misclassifies and gets right; absent without the split.
  std::optional<int64_t> repair_faults = {}, repair_correct = {};
  // For each pair of label and wrong prediction that occurs: how many inputs there are.
  std::optional<std::vector<int64_t>> repair_error_types = {};
};

// Where the state of an interrupted fix is kept: named tensors, restored bit for bit on the CPU. Functions
// are empty where no checkpoints are kept; load() returns nothing where there is none.
using CheckpointState = std::map<std::string, at::Tensor>;
struct CheckpointSlot {
  std::function<std::optional<CheckpointState>()> load;  // called once, when the context is made
  std::function<void(const CheckpointState&, const FixLog&)> save;
  std::function<bool()> due;  // enough time has passed since the last one
};

// Everything that fix() may use: no files, and no split that the approach did not declare.
class FixContext {
 public:
  struct Setup : FixRequest {
    Stop stop = {};  // at the end of the budget, or at a stop signal
    std::function<void(double done, const std::string& what)> progress = {};
    CheckpointSlot checkpoint = {};
  };
  explicit FixContext(Setup setup);

  const FixRequest& request() const { return setup_; }
  const Split& split(const std::string& name) const;  // misuse where undeclared or absent
  bool has_split(const std::string& name) const;
  const DatasetInfo& data() const { return setup_.data->info(); }
  const Hyperparameters& hyperparameters() const { return setup_.hyperparameters; }
  const std::string& shadow() const { return setup_.shadow; }
  const std::optional<TrainingConfig>& training() const { return setup_.training; }
  const std::vector<std::map<std::string, at::Tensor>>& history() const { return setup_.history; }
  int64_t batch() const { return setup_.batch; }

  uint64_t seed(std::string_view purpose) const;  // for an at::Generator
  RandomStream stream(std::string_view purpose) const;

  // Whether the fix has to end: its budget is used up, or there is a stop signal. A loop that has a result
  // calls requested() and ends with it; one that has none yet calls check(), which throws.
  const Stop& stop() const { return setup_.stop; }
  // For work before the first result. It is never requested in a resumed fix, which would otherwise lose the
  // result that its checkpoint holds.
  Stop preparation_stop() const { return resumed() ? Stop() : stop(); }
  Batching batching() const { return {batch(), preparation_stop()}; }

  bool resumed() const { return !!saved_; }  // whether there is a checkpoint to go on from
  // The checkpoint of an earlier, interrupted run of this fix; nothing where there is none. On the CPU.
  const std::optional<CheckpointState>& load_checkpoint() const { return saved_; }
  // Whether enough time has passed since the last checkpoint. A fix that is stopped always saves one, also
  // where it returns a network, because a stop signal throws that away.
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
