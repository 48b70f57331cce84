// REASSURE: for every fault a patch of the logits that repairs the whole linear region of the dense head it
// lies in, and a support net that switches it off elsewhere (approaches/docs/RA.md, the ICLR version).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "approaches/batches.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/regions/region_solution.hpp"
#include "approaches/regions/sharpness.hpp"
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

  // What the head makes of all inputs, the faults in the order of the data set, their features, and the box.
  void read_features() {
    const Split& repair = context_.split("repair");
    const int64_t limit = hyper_.integer("faults");
    const at::NoGradGuard no_grad;
    std::vector<std::vector<at::Tensor>> parts(3);
    for_each_batch(original_, repair, context_.batching(), [&](const Batch& batch) {
      const auto values =
          original_.activations(batch.x, {head_.cut, head_.hidden[0].value, original_.logits_node()});
      for (size_t k = 0; k < parts.size(); ++k) parts[k].push_back(values[k].cpu());
    });
    inputs_ = {at::cat(parts[0]), at::cat(parts[1]), at::cat(parts[2]), repair.labels()};
    positions_ = locate::judgement_of(inputs_.labels, inputs_.logits.argmax(1)).wrong;
    if (limit > 0 && std::ssize(positions_) > limit) positions_.resize(static_cast<size_t>(limit));
    const at::Tensor faults = locate::position_table(positions_);
    labels_ = locate::positions_of(inputs_.labels.index_select(0, faults));
    features_ = inputs_.features.index_select(0, faults).to(at::kDouble);
    low_ = at::minimum(inputs_.features.amin(0), at::zeros({})).to(at::kDouble);
    high_ = at::maximum(inputs_.features.amax(0), at::zeros({})).to(at::kDouble);
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

  // Gives `network` the best n: from `n_most` on by halves, or `n` alone (RA.md, Steps in this project, 6).
  // What it is judged to do; nothing where that was stopped before one n was judged.
  std::optional<regions::PatchVerdict> search_sharpness(Network& network, regions::PatchSetting& setting,
                                                        const std::vector<int64_t>& promised) {
    const bool given = !hyper_.is_null("n");
    const double first = hyper_.number(given ? "n" : "n_most"),
                 least = given ? first : hyper_.number("n_least");
    std::optional<regions::PatchVerdict> best;
    double best_sharpness = first;
    for (double n = first; !best || n >= least; n /= 2) {
      // Without a verdict there is no result. Patches that a stop has left have this one pass still coming.
      const Stop stop = best ? context_.stop() : stopped_ ? Stop() : context_.preparation_stop();
      setting.sharpness = n;
      regions::set_sharpness(network, head_, setting);
      const auto verdict = regions::judge_patches(original_, network, head_, inputs_, promised,
                                                  {context_.batch(), stop}, best);
      search_stopped_ = !verdict;
      if (!verdict) {
        save();
        break;
      }
      auto& series = context_.log().series;
      series["sharpness"].push_back(n);
      series["repaired"].push_back(static_cast<double>(verdict->repaired));
      series["broken"].push_back(static_cast<double>(verdict->broken));
      series["judged"].push_back(static_cast<double>(verdict->judged));
      context_.progress(std::log2(first / n) / std::max(1.0, std::log2(first / least)), "sharpness");
      if (!best || regions::at_least_as_good(*verdict, *best)) {
        best = verdict;
        best_sharpness = n;
      }
      if (stopped_) break;
    }
    setting.sharpness = best_sharpness;
    regions::set_sharpness(network, head_, setting);
    return best;
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
    at::Tensor features = features_.index_select(0, at::tensor(patched, at::kLong));
    setting.patterns = regions::activation_patterns(head_, features);
    if (!hyper_.boolean("keep_harmful")) {
      const at::Tensor kept = beneficial(setting.patterns, labels);
      harmful_ = std::ssize(patched) - kept.numel();
      if (kept.numel() == 0) {
        return failed(stopped_ ? "timeout" : "no_fix",
                      "each patch would cost more correct inputs of the repair split than it repairs");
      }
      const std::vector<int64_t> numbers = locate::positions_of(kept);
      const auto pick = [&](auto& from) {
        std::remove_reference_t<decltype(from)> picked;
        for (const int64_t k : numbers) picked.push_back(std::move(from[static_cast<size_t>(k)]));
        from = std::move(picked);
      };
      pick(patched), pick(labels), pick(answers);
      features = features.index_select(0, kept);
      setting.patterns = regions::activation_patterns(head_, features);
    }
    setting.patches = regions::affine_patches(head_, features, labels, answers);
    setting.low = low_;
    setting.high = high_;
    // What is promised: of faults in one region the last patch wins (RA.md, Steps in this project, 5).
    const at::Tensor kept = regions::undisputed(setting.patterns, labels);
    const at::Tensor wanted = at::tensor(patched, at::kLong).index_select(0, kept);
    FixResult result;
    result.network = regions::with_patches(original_, head_, setting);
    const auto verdict =
        search_sharpness(*result.network, setting,
                         locate::positions_of(locate::position_table(positions_).index_select(0, wanted)));
    if (!verdict) return failed("timeout", "stopped before the first sharpness was judged");
    const at::Tensor found = right(*result.network);
    const auto repaired = found.index_select(0, wanted).sum().item<int64_t>();
    context_.log().scalars["promised"] = static_cast<double>(wanted.numel());
    context_.log().scalars["repaired_of_promised"] = static_cast<double>(repaired);
    context_.log().scalars["repaired_of_given"] = found.sum().item<double>();
    if (repaired == 0)
      return failed(stopped_ || search_stopped_ ? "timeout" : "no_fix", "no fault is right with its patch");
    describe(*result.network, setting, *verdict);
    if (stopped_) {
      add_note("stopped after " + std::to_string(answers_.size()) + " faults");
    } else if (search_stopped_) {
      add_note("stopped in the search of the sharpness");
    }
    if (!unsolved.empty())
      add_note(std::to_string(std::ssize(answers_) - std::ssize(patched) - harmful_) +
               " faults without a patch: " + unsolved);
    if (harmful_ > 0)
      add_note(std::to_string(harmful_) +
               " faults without a patch: more correct inputs in their regions than it repairs");
    if (repaired < wanted.numel())
      add_note(std::to_string(wanted.numel() - repaired) + " promised faults still wrong");
    if (verdict->broken > 0)
      add_note(std::to_string(verdict->broken) + " correct inputs of the repair split break");
    result.note = note_;
    return result;
  }

  void add_note(const std::string& text) { note_ += (note_.empty() ? "" : "; ") + text; }

  // For every batch of the repair split: its first input, and bool (inputs, L), which of L regions each is
  // in.
  template <typename See>
  void for_each_membership(const std::vector<at::Tensor>& patterns, const See& see) const {
    const at::Tensor signs = at::cat(patterns, 1).to(at::kFloat).mul_(2).sub_(1);
    for (int64_t begin = 0; begin < inputs_.size(); begin += context_.batch()) {
      const at::Tensor part = inputs_.features.slice(0, begin, begin + context_.batch()).to(at::kDouble);
      const at::Tensor own = at::cat(regions::activation_patterns(head_, part), 1);
      see(begin, own.to(at::kFloat).mul_(2).sub_(1).matmul(signs.t()).eq(signs.size(1)));
    }
  }

  // The numbers of the patches in whose region at least as many inputs of the repair split get their label as
  // lose it: a patch gives its label to all of them, whatever the sharpness (RA.md, Steps in this project,
  // 5).
  at::Tensor beneficial(const std::vector<at::Tensor>& patterns, const std::vector<int64_t>& labels) const {
    const at::Tensor given = at::tensor(labels, at::kLong),
                     right = inputs_.logits.argmax(1).eq(inputs_.labels);
    at::Tensor gain = at::zeros({given.numel()}, at::kLong);
    for_each_membership(patterns, [&](int64_t begin, const at::Tensor& member) {
      const int64_t end = begin + member.size(0);
      const at::Tensor own = inputs_.labels.slice(0, begin, end).unsqueeze(1).eq(given);  // (inputs, L)
      const at::Tensor was_right = right.slice(0, begin, end).unsqueeze(1);
      gain += (member & own & ~was_right).sum(0) - (member & ~own & was_right).sum(0);
    });
    return gain.ge(0).nonzero().flatten();
  }

  void describe(const Network& fixed, const regions::PatchSetting& setting,
                const regions::PatchVerdict& verdict) {
    auto& scalars = context_.log().scalars;
    scalars["sharpness"] = setting.sharpness;
    scalars["broken"] = static_cast<double>(verdict.broken);
    scalars["harmful"] = static_cast<double>(harmful_);
    scalars["affine_patches"] = setting.patches.factor.defined();
    scalars["box_high"] = high_.max().item<double>();
    scalars["largest_shift"] = setting.patches.constant.abs().max().item<double>();
    scalars["inference_cost_ratio"] = regions::operations(fixed) / regions::operations(original_);
    // Shares of the repair split: inputs whose logits the patches change, and inputs in a patched region.
    scalars["reached_share"] = static_cast<double>(verdict.reached) / static_cast<double>(inputs_.size());
    int64_t inside = 0;
    for_each_membership(setting.patterns, [&](int64_t, const at::Tensor& member) {
      inside += member.any(1).sum().item<int64_t>();
    });
    scalars["inside_share"] = static_cast<double>(inside) / static_cast<double>(inputs_.size());
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
  regions::HeadInputs inputs_;                     // the repair split, in the network's type
  at::Tensor features_;                            // of the faults (L, D), double
  at::Tensor low_, high_;                          // (D), double
  std::vector<int64_t> positions_, labels_;        // of the faults
  std::vector<regions::RegionSolution> answers_;   // of the first faults
  int64_t harmful_ = 0;                            // patches that were left out as such
  bool stopped_ = false, search_stopped_ = false;  // before all answers were there, and after
  std::string note_;
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
  HyperparameterSpec sharpness{.name = "n",
                               .default_value = nullptr,
                               .meaning = "sharpness of the support nets; null: searched from n_most down",
                               .unit = "number",
                               .source = "our choice; " + code + " leaves it to the user",
                               .minimum = 1e-9,
                               .nullable = true};
  return {
      integer_spec("faults", 0, "most faults that get a patch, the first ones; 0: all", "inputs", choice, 0),
      sharpness,
      number_spec("n_most", 1024, "what the search of n starts from", choice, 1e-9),
      number_spec("n_least", 1.0 / 1024, "least n of the search, which goes by halves", choice, 1e-9),
      number_spec("ql", -100, "least difference of a logit to the label's within a region", code, -1e6, -1),
      number_spec("qu", -1e-3, "greatest difference of a logit to the label's within a region",
                  "our choice: 0, as the public code has it, leaves ties", -1, 0),
      choice_spec("box", "global", "range of the features: one for all of them, or one for each", choice,
                  {"global", "per_feature"}),
      choice_spec("range", "lp", "greatest differences by linear programs, or from the box alone",
                  code + "; box: our choice", {"lp", "box"}),
      boolean_spec(
          "keep_harmful", false,
          "also use patches that cost more correct inputs of the repair split than they repair faults",
          "our choice; true: " + code),
  };
}

const bool registered = register_approach({
    .info = {.key = "RA",
             .name = "REASSURE",
             .level = Level::layer,
             .basis = Basis::reference_code,
             .publication = "ICLR 2022",
             .version = 2,
             .needs = {"repair"},
             .hyperparameters = hyperparameter_specs(),
             .random = false,
             .in_study = true},
    .adapt = refuse,
    .fix = [](const Network& original, FixContext& context) { return Reassure(original, context).run(); },
});

}  // namespace
}  // namespace harness
