// IN, INNER: probes on the blocks of a network say which blocks treat the faults unlike clean inputs, neuron
// routing which of their weights the answers rest on, and masked training moves those
// (approaches/docs/IN.md).
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "approaches/locate/sampling.hpp"
#include "approaches/routing/best_epoch.hpp"
#include "approaches/routing/block_repair.hpp"
#include "approaches/routing/neuron_routing.hpp"
#include "approaches/train/log_state.hpp"
#include "harness/approach/specs.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness {
namespace {

constexpr int64_t kManyClasses = 100;  // from here on the batch of ImageNet
constexpr double kVacuous = 0.99;      // share of the weights from which on a mask chooses nothing
const char* const kSets[] = {"faulty", "held_out", "clean", "check", "probe"};
const std::vector<std::string> kSeries = {"anomaly_score", "selected",     "probe_accuracy",
                                          "routed_inputs", "mask_density", "clean_accuracy",
                                          "fault_rate"};

std::string percent(double share) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * share);
  return text.data();
}

class Inner {
 public:
  Inner(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        network_(original.fork()),
        blocks_(routing::probed_blocks(original)) {}

  FixResult run() {
    FixResult result;
    saved_ = context_.load_checkpoint();
    if (saved_) train::load_series(context_.log(), kSeries, *saved_);
    choose_inputs();
    if (sets_.at("faulty").positions.empty() || sets_.at("clean").positions.empty()) {
      result.failure = {"no_fix", "no misclassified input of the repair split, or no clean one"};
      return result;
    }
    try {
      timed("probes", [&] { make_probes(); });
      timed("localise", [&] { localise(); });
      timed("routing", [&] { route(); });
      if (draws_weights() && density_ > kVacuous) {
        result.unadaptable = true;
        result.failure = {"vacuous_control", masks_text() + ", so nothing can be drawn in their place"};
        return result;
      }
      timed("repair", [&] { result = repair(); });
    } catch (const FixStopped&) {
      save();
      throw;
    }
    return result;
  }

 protected:
  template <typename Work>
  void timed(const char* phase, const Work& work) {
    const PhaseTimer timer(context_.log(), phase);
    work();
  }

  // Faults of the repair split, a part held out; clean inputs to train and to check on, and those of the
  // probes, that have none in common (IN.md, Steps in this project, 1).
  void choose_inputs() {
    const bool apart = context_.has_split("validation");
    const std::string clean = apart ? "validation" : "train";
    for (const char* name : kSets) {
      const std::string set = name;
      sets_[set].split = &context_.split(set == "probe"                         ? "train"
                                         : set == "faulty" || set == "held_out" ? "repair"
                                                                                : clean);
      if (saved_) sets_[set].positions = locate::positions_of(saved_->at("set." + set));
    }
    if (!saved_) {
      RandomStream faults = context_.stream("faults"), others = context_.stream("clean");
      const std::vector<int64_t> wrong = locate::draw_at_most(
          locate::judge_split(original_, context_.split("repair"), context_.batching()).wrong,
          hyper_.integer("repair_samples"), faults);
      const auto total = static_cast<int64_t>(wrong.size());
      const auto share = static_cast<int64_t>(hyper_.number("held_out") * static_cast<double>(total));
      const int64_t kept_back = total < 2 ? 0 : std::clamp<int64_t>(share, 1, total - 1);
      const std::vector<int64_t> order = faults.permutation(total);
      for (int64_t k = 0; k < total; ++k) {
        sets_[k < kept_back ? "held_out" : "faulty"].positions.push_back(
            wrong[static_cast<size_t>(order[k])]);
      }
      if (kept_back == 0) sets_["held_out"].positions = sets_["faulty"].positions;
      const int64_t there = context_.split(clean).size();
      const std::vector<int64_t> mixed = others.permutation(there);
      const int64_t count = std::min(hyper_.integer("clean_samples"), there / (apart ? 2 : 3));
      sets_["clean"].positions.assign(mixed.begin(), mixed.begin() + count);
      sets_["check"].positions.assign(mixed.begin() + count, mixed.begin() + 2 * count);
      const std::vector<int64_t> left(mixed.begin() + 2 * count, mixed.end());
      const int64_t wanted = hyper_.integer("probe_samples");
      sets_["probe"].positions =
          apart ? context_.stream("probe").permutation(context_.split("train").size()) : left;
      auto& chosen = sets_["probe"].positions;
      chosen.resize(static_cast<size_t>(std::min<int64_t>(wanted, static_cast<int64_t>(chosen.size()))));
    }
    for (const char* name : kSets)
      context_.log().scalars[std::string("inputs_") + name] = static_cast<double>(sets_[name].size());
  }

  // On outputs of the unchanged network in evaluation mode (IN.md, Steps in this project, 3).
  void make_probes() {
    const InputSet& inputs = sets_.at("probe");
    const at::Tensor y = inputs.labels(0, inputs.size(), original_.device());
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const Node& read = original_.nodes()[static_cast<size_t>(blocks_[b].output)];
      const std::string name = "probe." + std::to_string(b);
      probes_.emplace_back(blocks_[b].probe_depth, read.shape, original_.classes(), context_.seed(name),
                           original_.device());
      if (saved_ && saved_->count(name + ".0") > 0) {
        probes_.back().load(*saved_, name);
        ++trained_probes_;
        continue;
      }
      const double accuracy = routing::train_probe(probes_.back(), block_values(b), y,
                                                   {.learning_rate = hyper_.number("probe_rate"),
                                                    .epochs = hyper_.integer("probe_epochs"),
                                                    .batch = hyper_.integer("probe_batch"),
                                                    .seed = context_.seed(name + ".order"),
                                                    .stop = context_.stop()});
      ++trained_probes_;
      context_.log().series["probe_accuracy"].push_back(accuracy);
      context_.progress(static_cast<double>(b + 1) / static_cast<double>(blocks_.size()), "probes");
      if (context_.checkpoint_due()) save();
    }
  }

  // What a block gives for the inputs of the probes. The first call computes it for all blocks from that one
  // on, in one pass, where it can be kept.
  at::Tensor block_values(size_t block) {
    if (const auto found = values_.find(block); found != values_.end()) {
      at::Tensor value = std::move(found->second);
      values_.erase(found);
      return value;
    }
    const InputSet& inputs = sets_.at("probe");
    int64_t bytes = 0;
    for (size_t b = block; b < blocks_.size(); ++b) {
      const Node& read = original_.nodes()[static_cast<size_t>(blocks_[b].output)];
      bytes += graph::value_count(read.shape) * inputs.size() * int64_t{sizeof(float)};
    }
    const bool together = bytes <= cache_bytes(original_.device());
    std::vector<NodeId> wanted;  // ascending, as blocks are
    for (size_t b = block; b < (together ? blocks_.size() : block + 1); ++b)
      wanted.push_back(blocks_[b].output);
    std::vector<std::vector<at::Tensor>> parts(wanted.size());
    for_each_batch(original_, inputs, {context_.batch(), context_.stop()}, [&](const Batch& batch) {
      const std::vector<at::Tensor> values = original_.activations(batch.x, wanted);
      for (size_t k = 0; k < wanted.size(); ++k) parts[k].push_back(values[k]);
    });
    for (size_t k = 1; k < wanted.size(); ++k) values_[block + k] = at::cat(parts[k]);
    return at::cat(parts[0]);
  }

  // The blocks whose probe tells faults and clean inputs most apart (IN.md, Steps in this project, 4).
  void localise() {
    std::vector<double>& scores = context_.log().series["anomaly_score"];
    std::vector<double>& selected = context_.log().series["selected"];
    if (selected.empty()) {
      scores.clear();
      const int64_t limit = hyper_.integer("anomaly_samples");
      const auto x_of = [&](const char* set) {
        const InputSet& inputs = sets_.at(set);
        return inputs.load(0, std::min(inputs.size(), limit), original_.device());
      };
      const at::Tensor clean = x_of("clean"), faulty = x_of("faulty");
      for (size_t b = 0; b < blocks_.size(); ++b) {
        const auto mean_of = [&](const at::Tensor& x) {
          return routing::mean_probabilities(probes_[b], original_.activations(x, {blocks_[b].output})[0]);
        };
        scores.push_back(routing::anomaly_score(mean_of(clean), mean_of(faulty)));
      }
      for (size_t b = 0; b < blocks_.size(); ++b) selected.push_back(static_cast<double>(b));
      std::ranges::stable_sort(selected, [&](double one, double other) {
        return scores[static_cast<size_t>(one)] > scores[static_cast<size_t>(other)];
      });
      selected.resize(std::min(selected.size(), static_cast<size_t>(hyper_.integer("blocks"))));
    }
    for (const double b : selected) chosen_.push_back(static_cast<size_t>(b));
  }

  // Once for each selected block (IN.md, Steps in this project, 5).
  void route() {
    const InputSet& faulty = sets_.at("faulty");
    const at::Tensor x =
        faulty.load(0, std::min(faulty.size(), hyper_.integer("routing_samples")), original_.device());
    double marked = 0, weights = 0;
    for (size_t k = 0; k < chosen_.size(); ++k) {
      const std::string name = "mask." + std::to_string(k);
      if (saved_ && saved_->count(name) > 0) {
        masks_.push_back(saved_->at(name).to(original_.device()));
      } else {
        const routing::RoutingCounts counts =
            routing::routing_counts(original_, blocks_[chosen_[k]], probes_[chosen_[k]], x,
                                    {.steps = hyper_.integer("routing_steps"),
                                     .rate = hyper_.number("routing_rate"),
                                     .shrink = hyper_.number("routing_shrink"),
                                     .until_full = hyper_.text("mask_mode") == "union",
                                     .stop = context_.stop()});
        masks_.push_back(mask_of(counts.marked.flatten(), name));
        context_.log().series["routed_inputs"].push_back(static_cast<double>(counts.inputs));
        context_.log().series["mask_density"].push_back(masks_.back().to(at::kDouble).mean().item<double>());
        context_.progress(static_cast<double>(k + 1) / static_cast<double>(chosen_.size()), "routing");
        if (context_.checkpoint_due()) save();
      }
      marked += masks_.back().sum().item<double>();
      weights += static_cast<double>(masks_.back().numel());
    }
    density_ = marked / weights;
  }

  virtual bool draws_weights() const { return false; }
  std::string masks_text() const {
    return "the masks hold " + percent(density_) + " of the chosen blocks' weights";
  }

  // bool: the weights of a block that may move, from how often each was marked.
  virtual at::Tensor mask_of(const at::Tensor& counts, const std::string&) const {
    const bool few = hyper_.text("mask_mode") == "top_n";
    return routing::marked(counts, few ? hyper_.integer("top_weights") : counts.numel());
  }

  // IN.md, Steps in this project, 6. A stopped epoch is taken back.
  FixResult repair() {
    std::vector<routing::RepairedBlock> repaired;
    for (size_t k = 0; k < chosen_.size(); ++k)
      repaired.push_back({blocks_[chosen_[k]], probes_[chosen_[k]], masks_[k]});
    int64_t batch = hyper_.integer("batch");
    if (batch == 0) batch = original_.classes() < kManyClasses ? 64 : 8;
    routing::BlockRepair repair(network_, std::move(repaired), sets_.at("faulty"), sets_.at("clean"),
                                {.learning_rate = hyper_.number("learning_rate"),
                                 .batch = batch,
                                 .alpha = hyper_.number("alpha"),
                                 .temperature = hyper_.number("temperature"),
                                 .train_mode = hyper_.text("bn_mode") == "reference",
                                 .seed = context_.seed("dropout"),
                                 .stop = context_.stop()});
    checks_.emplace(
        routing::KeptValues::Setup{.network = network_,
                                   .moved = repair.layers(),
                                   .averages_move = !repair.averages().empty(),
                                   .inputs = sets_.at("check").size() + sets_.at("held_out").size()});
    FixLog& log = context_.log();
    if (saved_ && saved_->count("epoch") > 0) {
      restore(*saved_, repair);
      min_value_ = saved_->at("least").item<double>();  // no time for it may be left
    } else {
      min_value_ = right_of("check", context_.batching()) - hyper_.number("accuracy_slack");
    }
    const int64_t epochs = hyper_.integer("epochs");
    FixResult result;
    Ending ending = Ending::none;
    while (epoch_ < epochs && ending == Ending::none) {
      snapshot(repair);
      if (context_.checkpoint_due()) save();
      try {
        ending = run_epoch(repair);
      } catch (const FixStopped&) {
        ending = Ending::stopped;
        restore(snapshot_, repair);
        save();
        break;
      }
      if (ending == Ending::not_finite && !best_.empty()) break;
      if (ending == Ending::not_finite) {
        result.failure = {"no_fix", "the loss is not finite in epoch " + std::to_string(epoch_ + 1)};
        return result;
      }
      ++epoch_;
      if (keeps_best()) {  // one that reaches the goal is the result in any case
        best_.offer(network_, repair.changing(), epoch_, log.series["clean_accuracy"].back(),
                    log.series["fault_rate"].back(), ending == Ending::goal);
      }
      context_.progress(static_cast<double>(epoch_) / static_cast<double>(epochs), "repair");
    }
    log.counters["epochs"] = epoch_;
    log.counters["optimiser_steps"] = repair.steps();
    log.scalars["reached_its_goal"] = ending == Ending::goal;
    if (ending == Ending::stopped && epoch_ == 0) {
      result.failure = {"timeout", "stopped before the first epoch was over"};
      return result;
    }
    if (ending == Ending::not_finite)
      result.note = "the loss is not finite in epoch " + std::to_string(epoch_ + 1);
    conclude(repair, ending == Ending::stopped, ending == Ending::goal, &result);
    return result;
  }

  bool keeps_best() const {
    const std::string keep = hyper_.text("keep");
    return keep == "best" || (keep == "auto" && context_.has_split("validation"));
  }

  void conclude(const routing::BlockRepair& repair, bool stopped, bool goal, FixResult* result) {
    FixLog& log = context_.log();
    std::vector<std::string> notes;
    if (stopped) notes.push_back("stopped after " + std::to_string(epoch_) + " epochs");
    double clean = log.series["clean_accuracy"].back(), faults = log.series["fault_rate"].back();
    if (!best_.empty()) {
      best_.write(network_, repair.changing());
      clean = best_.clean();
      faults = best_.faults();
      const int64_t kept = best_.epoch();
      log.scalars["kept_epoch"] = static_cast<double>(kept);
      if (kept < epoch_)
        notes.push_back("kept epoch " + std::to_string(kept) + " of " + std::to_string(epoch_));
    }
    if (!goal) {
      notes.push_back("missed its goal: " + percent(clean) +
                      " of the clean inputs are right (wanted: " + percent(min_value_) + "), " +
                      percent(faults) + " of the held-out faults wrong (wanted: less than " +
                      percent(hyper_.number("goal_fault_rate")) + ")");
    }
    if (density_ > kVacuous) notes.push_back(masks_text() + ", routing chose next to nothing");
    for (const std::string& note : notes) result->note += (result->note.empty() ? "" : "; ") + note;
    result->touched = repair.touched();
    result->network = std::move(network_);
  }

  enum class Ending { none, goal, stopped, not_finite };

  Ending run_epoch(routing::BlockRepair& repair) {
    const int64_t repeats = hyper_.integer("output_repeats");
    for (int64_t phase = 0; phase <= repeats; ++phase) {
      for (size_t k = 0; k < repair.blocks(); ++k) {
        const int64_t pass = (epoch_ * (repeats + 1) + phase) * static_cast<int64_t>(repair.blocks()) +
                             static_cast<int64_t>(k);
        const bool finite = phase == 0 ? repair.train_on_probe(k, pass) : repair.train_on_output(k, pass);
        if (!finite) return Ending::not_finite;
      }
      if ((phase == 0 || phase == repeats) && reached()) return Ending::goal;
    }
    return Ending::none;
  }

  bool reached() {
    FixLog& log = context_.log();
    const Batching all(context_.batch(), context_.stop());
    const double clean = right_of("check", all), faults = 1 - right_of("held_out", all);
    log.series["clean_accuracy"].push_back(clean);
    log.series["fault_rate"].push_back(faults);
    return clean >= min_value_ && faults < hyper_.number("goal_fault_rate");
  }

  // Share of a set that the network under repair has right.
  double right_of(const char* set, const Batching& batching) {
    return routing::accuracy(network_, *checks_, sets_.at(set), batching);
  }

  void snapshot(const routing::BlockRepair& repair) {
    snapshot_ = {{"epoch", at::scalar_tensor(epoch_, at::kLong)},
                 {"least", at::scalar_tensor(min_value_, at::kDouble)}};
    repair.save(snapshot_);
    best_.save(snapshot_);
    train::save_series(context_.log(), kSeries, snapshot_);
  }
  void restore(const CheckpointState& state, routing::BlockRepair& repair) {
    epoch_ = state.at("epoch").item<int64_t>();
    repair.load(state);
    best_.load(state);
    train::load_series(context_.log(), kSeries, state);
  }

  void save() const {
    CheckpointState state = snapshot_;
    for (const auto& [name, inputs] : sets_) state["set." + name] = locate::position_table(inputs.positions);
    for (size_t b = 0; b < trained_probes_; ++b) probes_[b].save(state, "probe." + std::to_string(b));
    for (size_t k = 0; k < masks_.size(); ++k) state["mask." + std::to_string(k)] = masks_[k].cpu();
    if (snapshot_.empty()) train::save_series(context_.log(), kSeries, state);
    context_.save_checkpoint(state);
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  Network network_;
  std::vector<routing::ProbedBlock> blocks_;
  std::optional<CheckpointState> saved_;
  std::map<std::string, InputSet> sets_;
  std::vector<routing::Probe> probes_;
  std::map<size_t, at::Tensor> values_;  // of blocks, for probes that are still to be trained
  size_t trained_probes_ = 0;
  std::vector<size_t> chosen_;     // blocks, the highest score first
  std::vector<at::Tensor> masks_;  // bool, of the chosen blocks' kernels
  double density_ = 0;             // share of these weights that the masks hold, together
  std::optional<routing::KeptValues> checks_;
  CheckpointState snapshot_;  // of the repair, at the beginning of the epoch
  routing::BestEpoch best_;   // empty where the last one is wanted
  int64_t epoch_ = 0;
  double min_value_ = 0;  // accuracy on clean inputs
};

// RAND:IN: in every chosen block as many weights. Where the masks hold all of them, it would be IN itself.
class RandomInner final : public Inner {
 public:
  using Inner::Inner;

 protected:
  bool draws_weights() const override { return true; }
  at::Tensor mask_of(const at::Tensor& counts, const std::string& name) const override {
    const at::Tensor mask = Inner::mask_of(counts, name);
    const std::vector<int64_t> drawn =
        context_.stream(name).sample(counts.numel(), mask.sum().item<int64_t>());
    return at::zeros_like(mask).index_fill_(0, locate::position_table(drawn).to(mask.device()), true);
  }
};

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string hyper = "public code, implicitDeclaration/inner (Chen et al., ISSTA 2024)",
                    adaptation = "our choice";
  return {
      integer_spec("probe_samples", 1000, "training inputs of the probes", "inputs", hyper, 2),
      integer_spec("probe_epochs", 50, "of a probe's training", "epochs", hyper, 1),
      integer_spec("probe_batch", 128, "of a probe's training", "inputs", hyper, 1),
      number_spec("probe_rate", 0.01, "learning rate of Adam, for the probes", hyper, 0),
      integer_spec("anomaly_samples", 30, "inputs of either side for the anomaly score", "inputs", hyper, 1),
      integer_spec("blocks", 3, "blocks that are repaired", "blocks", hyper, 1),
      integer_spec("routing_samples", 100, "most misclassified inputs that are routed", "inputs", hyper, 1),
      integer_spec("routing_steps", 40, "of a routing", "steps", hyper, 1),
      number_spec("routing_rate", 0.009, "step against the gradient", hyper, 0),
      number_spec("routing_shrink", 0.005, "by which a step lowers an entry", hyper, 0),
      choice_spec("mask_mode", "top_n", "the top_weights most often marked weights, or all ever marked ones",
                  hyper + "; top_n: its option that is switched off there", {"top_n", "union"}),
      integer_spec("top_weights", 100, "of each block, with mask_mode top_n", "weights", hyper, 1),
      integer_spec("repair_samples", 1000, "most misclassified inputs; 0: all", "inputs", hyper, 0),
      number_spec("held_out", 0.2, "part of them for the test of the fault rate", adaptation, 0, 1),
      integer_spec("clean_samples", 1000, "clean inputs to train on, as many others to check on", "inputs",
                   adaptation, 1),
      number_spec("learning_rate", 0.0007, "of the masked gradient descent", hyper, 0),
      integer_spec("batch", 0, "of the repair; 0: 64, and 8 where there are 100 classes or more", "inputs",
                   hyper, 0),
      number_spec("alpha", 0.8, "weight of the cross-entropy against the distillation", hyper, 0, 1),
      number_spec("temperature", 3, "of the distillation", hyper, 1e-3),
      integer_spec("epochs", 20, "most epochs", "epochs", hyper, 1),
      integer_spec("output_repeats", 2, "passes on the network's output in an epoch", "passes", hyper, 0),
      number_spec("accuracy_slack", 0.1, "of accuracy on clean inputs that may go", hyper, 0, 1),
      number_spec("goal_fault_rate", 0.15, "part of held-out faults below which it stops", hyper, 0, 1),
      choice_spec("keep", "auto",
                  "the epoch of the highest accuracy on the clean inputs to check on, or the last one; auto: "
                  "best where there is a validation split",
                  "our choice; last: public code, implicitDeclaration/inner", {"auto", "best", "last"}),
      choice_spec("bn_mode", "evaluation",
                  "batch norm, dropout and probes in the repair: all in evaluation mode, or in train mode, "
                  "which moves running averages",
                  "our choice; reference: public code, implicitDeclaration/inner",
                  {"evaluation", "reference"}),
  };
}

const bool registered = register_approach({
    .info = {.key = "IN",
             .name = "INNER",
             .level = Level::neuron,
             .basis = Basis::reference_code,
             .publication = "ISSTA 2024",
             .version = 3,
             .needs = {"train", "repair"},
             .uses = {"validation"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = routing::refuse_without_blocks,
    .fix = [](const Network& original,
              FixContext& context) { return Inner(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomInner(original, context, parameters).run();
        },
    .fix_for_its_steps =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return Inner(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness
