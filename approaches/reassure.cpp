// REASSURE: for every fault a patch of the logits that repairs the whole linear region of the dense head it
// lies in, and a support net that switches it off elsewhere (approaches/docs/RA.md, the ICLR version).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "approaches/batches.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/regions/region_solution.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

constexpr int64_t kRegionBytes = int64_t{128} << 20;  // rows of the regions in work at a time

class Reassure {
 public:
  Reassure(const Network& original, FixContext& context)
      : original_(original),
        context_(context),
        hyper_(context.hyperparameters()),
        head_(std::get<regions::DenseHead>(regions::dense_head(original))) {}

  FixResult run() {
    restore();
    {
      const PhaseTimer timer(context_.log(), "features");
      read_features();
    }
    if (labels_.empty()) return failed("no_fix", "the repair split has no misclassified input");
    {
      const PhaseTimer timer(context_.log(), "linear_programs");
      solve();
    }
    const PhaseTimer timer(context_.log(), "patch");
    return patch();
  }

 private:
  static FixResult failed(const std::string& code, const std::string& text) {
    FixResult result;
    result.failure = {code, text};
    return result;
  }

  // Features of the faults at the cut, in the order of the data set, and the box of all features.
  void read_features() {
    const Split& repair = context_.split("repair");
    const int64_t limit = hyper_.integer("faults");
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> all, predictions;
    for_each_batch(original_, repair, context_.batching(), [&](const Batch& batch) {
      const auto values = original_.activations(batch.x, {head_.cut, original_.logits_node()});
      all.push_back(values[0].cpu());
      predictions.push_back(values[1].argmax(1).cpu());
    });
    repair_features_ = at::cat(all);
    positions_ = locate::judgement_of(repair.labels(), at::cat(predictions)).wrong;
    if (limit > 0 && std::ssize(positions_) > limit) positions_.resize(static_cast<size_t>(limit));
    const at::Tensor faults = locate::position_table(positions_);
    labels_ = locate::positions_of(repair.labels().index_select(0, faults));
    features_ = repair_features_.index_select(0, faults).to(at::kDouble);
    low_ = at::minimum(repair_features_.amin(0), at::zeros({})).to(at::kDouble);
    high_ = at::maximum(repair_features_.amax(0), at::zeros({})).to(at::kDouble);
    if (hyper_.text("box") == "global") {
      low_ = low_.min().expand_as(low_).contiguous();
      high_ = high_.max().expand_as(high_).contiguous();
    }
  }

  // Several faults at a time (RA.md, Steps in this project, 3 to 5).
  void solve() {
    int64_t rows = 0;
    for (const regions::DenseLayer& layer : head_.hidden) rows += layer.units();
    const int64_t bytes = rows * head_.features() * static_cast<int64_t>(sizeof(double));
    const regions::RegionTarget target{low_, high_, hyper_.number("ql"), hyper_.number("qu"),
                                       hyper_.text("range") == "lp"};
    const int64_t part = std::clamp<int64_t>(kRegionBytes / bytes, 1, 64), faults = count();
    for (auto begin = static_cast<int64_t>(answers_.size()); begin < faults; begin += part) {
      const int64_t end = std::min(faults, begin + part);
      const regions::LinearRegions regions = regions::linear_regions(head_, features_.slice(0, begin, end));
      std::vector<regions::RegionSolution> found(static_cast<size_t>(end - begin));
      const Stop stop([this] { return context_.stop().seen() || context_.stop().requested(); });
      at::parallel_for(0, end - begin, 1, [&](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; ++i) {
          if (stop.requested()) {
            found[i].outcome = lp::Outcome::stopped;
          } else {
            found[i] = regions::solve_region(regions, i, labels_[begin + i], target, stop);
          }
        }
      });
      for (regions::RegionSolution& answer : found) {
        stopped_ = stopped_ || answer.outcome == lp::Outcome::stopped;
        if (stopped_) break;
        answers_.push_back(std::move(answer));
      }
      context_.progress(static_cast<double>(answers_.size()) / static_cast<double>(faults),
                        "linear programs");
      if (stopped_ || context_.checkpoint_due()) save();
      if (stopped_) return;
    }
  }

  // bool (L): which of the faults the network gets right, from their images on.
  at::Tensor right(const Network& network) const {
    const InputSet faults{&context_.split("repair"), positions_};
    return predict(network, faults, context_.batch()).eq(locate::position_table(labels_));
  }

  // Logits of these features, from the cut on.
  at::Tensor logits_behind(const Network& network, const at::Tensor& features) const {
    const at::NoGradGuard no_grad;
    const Cut cut = network.cut_before(head_.cut + 1);
    std::vector<at::Tensor> live(cut.live.size());  // what else is live, the logits do not depend on
    live[std::ranges::find(cut.live, head_.cut) - cut.live.begin()] = features.to(network.device());
    return network.suffix(cut, live);
  }

  // The network with the blunter n, from the first one on, with which most of the faults `wanted` are right
  // (RA.md, Steps in this project, 6). A blunt support also reaches other faults: where fewer are right than
  // with the n before, sharper ones follow.
  Network search_sharpness(regions::PatchSetting& setting, const at::Tensor& wanted) {
    const at::Tensor labels = locate::position_table(labels_).index_select(0, wanted),
                     faults = locate::position_table(positions_).index_select(0, wanted),
                     features = repair_features_.index_select(0, faults);
    const double first = setting.sharpness;
    std::optional<Network> best;
    int64_t best_repaired = -1, before = -1;
    for (double n = first; !best || (best_repaired < wanted.numel() && !stop_search());) {
      regions::PatchSetting candidate = setting;
      candidate.sharpness = n;
      Network network = regions::with_patches(original_, head_, candidate);
      const auto found = logits_behind(network, features).argmax(1).cpu().eq(labels).sum().item<int64_t>();
      context_.log().series["sharpness"].push_back(n);
      context_.log().series["repaired"].push_back(static_cast<double>(found));
      if (found > best_repaired) {
        best_repaired = found;
        setting.sharpness = n;
        best = std::move(network);
      }
      const bool sharper = n > first || found < before || n / 2 < hyper_.number("n_least");
      n = !sharper ? n / 2 : 2 * std::max(n, first);
      if (n > first && n > hyper_.number("n_most")) break;
      before = found;
    }
    return std::move(*best);
  }

  // The answers are to be kept then: without a stop, blunter or sharper supports might repair more.
  bool stop_search() {
    if (!context_.stop().requested()) return false;
    search_stopped_ = true;
    save();
    return true;
  }

  FixResult patch() {
    std::vector<int64_t> patched, labels;
    std::vector<regions::RegionSolution> answers;
    std::string unsolved;
    for (size_t t = 0; t < answers_.size(); ++t) {
      if (answers_[t].outcome == lp::Outcome::optimal) {
        patched.push_back(static_cast<int64_t>(t));
        labels.push_back(labels_[t]);
        answers.push_back(answers_[t]);
      } else if (unsolved.empty()) {
        unsolved = lp::to_text(answers_[t].outcome);
      }
    }
    count_programs(patched);
    if (patched.empty()) {
      return stopped_ ? failed("timeout", "stopped before the first fault had its patch")
                      : failed("no_fix", "no linear program was solved: " + unsolved);
    }
    regions::PatchSetting setting;
    const at::Tensor features = features_.index_select(0, at::tensor(patched, at::kLong));
    setting.patterns = regions::activation_patterns(head_, features);
    setting.patches = regions::affine_patches(head_, features, labels, answers);
    setting.low = low_;
    setting.high = high_;
    // What is promised: of faults in one region the last patch wins (RA.md, Steps in this project, 5).
    const at::Tensor kept = regions::undisputed(setting.patterns, labels);
    const at::Tensor wanted = at::tensor(patched, at::kLong).index_select(0, kept);
    setting.sharpness = hyper_.number("n");
    FixResult result;
    result.network = search_sharpness(setting, wanted);
    const at::Tensor found = right(*result.network);
    const auto repaired = found.index_select(0, wanted).sum().item<double>();
    context_.log().scalars["promised"] = static_cast<double>(wanted.numel());
    context_.log().scalars["repaired_of_promised"] = repaired;
    context_.log().scalars["repaired_of_given"] = found.sum().item<double>();
    if (repaired == 0) return failed("no_fix", "no fault is right with its patch");
    describe(*result.network, setting);
    if (stopped_) {
      result.note = "stopped after " + std::to_string(answers_.size()) + " faults";
    } else if (search_stopped_) {
      result.note = "stopped in the search of the sharpness";
    }
    if (!unsolved.empty()) {
      result.note += (result.note.empty() ? "" : "; ") + std::to_string(answers_.size() - patched.size()) +
                     " faults without a patch: " + unsolved;
    }
    return result;
  }

  void describe(const Network& fixed, const regions::PatchSetting& setting) {
    auto& scalars = context_.log().scalars;
    scalars["sharpness"] = setting.sharpness;
    scalars["affine_patches"] = setting.patches.factor.defined();
    scalars["box_high"] = high_.max().item<double>();
    scalars["largest_shift"] = setting.patches.constant.abs().max().item<double>();
    scalars["inference_cost_ratio"] = regions::operations(fixed) / regions::operations(original_);
    // Shares of the repair split: inputs whose logits the patches change, and inputs in a patched region.
    const at::Tensor signs = at::cat(setting.patterns, 1).to(at::kFloat).mul_(2).sub_(1);
    int64_t reached = 0, inside = 0;
    for (const at::Tensor& part : repair_features_.split(context_.batch())) {
      reached += logits_behind(original_, part).ne(logits_behind(fixed, part)).any(1).sum().item<int64_t>();
      const at::Tensor own = at::cat(regions::activation_patterns(head_, part.to(at::kDouble)), 1);
      const at::Tensor agree = own.to(at::kFloat).mul_(2).sub_(1).matmul(signs.t());
      inside += agree.eq(signs.size(1)).any(1).sum().item<int64_t>();
    }
    scalars["reached_share"] = static_cast<double>(reached) / static_cast<double>(repair_features_.size(0));
    scalars["inside_share"] = static_cast<double>(inside) / static_cast<double>(repair_features_.size(0));
  }

  void count_programs(const std::vector<int64_t>& patched) {
    FixLog& log = context_.log();
    log.scalars["faults"] = static_cast<double>(count());
    log.scalars["patched"] = static_cast<double>(patched.size());
    for (const regions::RegionSolution& answer : answers_) {
      log.counters["linear_programs"] += answer.programs;
      log.counters["lower_programs"] += answer.lower_programs;
      log.counters["simplex_iterations"] += answer.iterations;
    }
  }

  // The answers are all there is to go on from: the rest follows from them and the features.
  void save() const {
    std::vector<at::Tensor> maps, counts;
    for (const regions::RegionSolution& answer : answers_) {
      maps.push_back(
          at::stack({at::tensor(answer.alpha, at::kDouble), at::tensor(answer.beta, at::kDouble)}));
      counts.push_back(at::tensor(
          {answer.programs, answer.lower_programs, answer.iterations, static_cast<int64_t>(answer.outcome)}));
    }
    if (maps.empty()) return;
    context_.save_checkpoint({{"maps", at::stack(maps)}, {"counts", at::stack(counts)}});
  }

  void restore() {
    const auto state = context_.load_checkpoint();
    if (!state) return;
    const at::Tensor maps = state->at("maps").contiguous(), counts = state->at("counts").contiguous();
    for (int64_t t = 0; t < maps.size(0); ++t) {
      const double* map = maps[t].const_data_ptr<double>();
      const auto* count = counts[t].const_data_ptr<int64_t>();
      const int64_t size = maps.size(2);
      answers_.push_back({.alpha = {map, map + size},
                          .beta = {map + size, map + 2 * size},
                          .programs = count[0],
                          .lower_programs = count[1],
                          .iterations = count[2],
                          .outcome = static_cast<lp::Outcome>(count[3])});
    }
  }

  int64_t count() const { return static_cast<int64_t>(labels_.size()); }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  regions::DenseHead head_;
  at::Tensor repair_features_, features_;    // (N, D) in the network's type; of the faults (L, D), double
  at::Tensor low_, high_;                    // (D), double
  std::vector<int64_t> positions_, labels_;  // of the faults
  std::vector<regions::RegionSolution> answers_;   // of the first faults
  bool stopped_ = false, search_stopped_ = false;  // before all answers were there, and after
};

std::optional<Refusal> refuse(const FixRequest& request) {
  const auto head = regions::dense_head(*request.network);
  if (const Refusal* refusal = std::get_if<Refusal>(&head)) return *refusal;
  if (request.repair_faults && *request.repair_faults == 0) {
    return Refusal{"no_faults", "the repair split has no misclassified input"};
  }
  return std::nullopt;
}

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string code = "public code, BU-DEPEND-Lab/REASSURE (Fu and Li, ICLR 2022)",
                    choice = "our choice";
  return {
      integer_spec("faults", 0, "most faults that get a patch, the first ones; 0: all", "inputs", choice, 0),
      number_spec("n", 1, "sharpness of the support nets: what the search starts from", choice, 1e-9),
      number_spec("n_least", 1.0 / 1024, "least n of the search, in halves", choice, 1e-9),
      number_spec("n_most", 1024, "greatest n of the search, in doubles, where no smaller one will do",
                  choice, 0),
      number_spec("ql", -100, "least difference of a logit to the label's within a region", code, -1e6, -1),
      number_spec("qu", -1e-3, "greatest difference of a logit to the label's within a region",
                  "our choice: 0, as the public code has it, leaves ties", -1, 0),
      choice_spec("box", "global", "range of the features: one for all of them, or one for each", choice,
                  {"global", "per_feature"}),
      choice_spec("range", "lp", "greatest differences by linear programs, or from the box alone",
                  code + "; box: our choice", {"lp", "box"}),
  };
}

const bool registered = register_approach({
    .info = {.key = "RA",
             .name = "REASSURE",
             .level = Level::layer,
             .basis = Basis::reference_code,
             .publication = "ICLR 2022",
             .needs = {"repair"},
             .hyperparameters = hyperparameter_specs(),
             .random = false,
             .in_study = true},
    .adapt = refuse,
    .fix = [](const Network& original, FixContext& context) { return Reassure(original, context).run(); },
});

}  // namespace
}  // namespace harness
