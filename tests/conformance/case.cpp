#include "tests/conformance/case.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "harness/core/process_memory.hpp"
#include "harness/model/cause.hpp"
#include "tests/approaches/entries.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

// A file between two processes has no tensor in common with either.
CheckpointState copy_of(const CheckpointState& state) {
  CheckpointState copy;
  for (const auto& [name, tensor] : state) copy[name] = tensor.detach().to(at::kCPU).clone();
  return copy;
}

// Notes the first poll that says stop, and what is used up from there.
class StopWatch {
 public:
  StopWatch(int64_t at, Observed& observed) : at_(at), observed_(observed) {}
  bool operator()() {
    const int64_t poll = observed_.polls++;
    if (at_ < 0 || poll < at_) return false;
    if (observed_.polls_after_stop++ == 0) {
      reset_peak();
      resident_ = resident_megabytes();
      is_forgotten_ = peak_megabytes() < resident_ + 1;
      begin_ = processor_seconds();
    }
    return true;
  }
  void close() {
    if (observed_.polls_after_stop == 0) return;
    observed_.seconds_after_stop = processor_seconds() - begin_;
    if (is_forgotten_) observed_.megabytes_after_stop = peak_megabytes() - resident_;
  }

 private:
  int64_t at_;
  Observed& observed_;
  double begin_ = 0, resident_ = 0;
  bool is_forgotten_ = false;
};

std::vector<Case> make_cases() {
  std::vector<Case> cases;
  for (const Entry& entry : every_entry()) {
    const Network* network = network_for(entry);
    INFO(entry.text() << " applies to none of the networks in tests/approaches/entries.cpp");
    REQUIRE(network != nullptr);
    cases.push_back({entry.text(), find_approach(entry.key), network,
                     [entry, network] { return entry.setup(*network); }});
  }
  return cases;
}

}  // namespace

const std::vector<Case>& every_case() {
  static const std::vector<Case> cases = make_cases();
  return cases;
}

Observed observe(const Case& one, const Watching& watching) {
  Observed observed;
  StopWatch stop(watching.stop_at, observed);
  FixContext::Setup setup = one.setup();
  setup.stop = [&stop] { return stop(); };
  setup.progress = [&observed](double done, const std::string& what) {
    ++observed.progress;
    observed.progress_is_a_share &= done >= 0 && done <= 1 && !what.empty();
  };
  setup.checkpoint = {
      .load = [&watching] { return watching.saved ? std::optional(copy_of(*watching.saved)) : std::nullopt; },
      .save = [&observed](const CheckpointState& state,
                          const FixLog&) { observed.saves.push_back(copy_of(state)); },
      .due = [&watching] { return watching.save_often; }};
  if (watching.change) watching.change(setup);
  FixContext context(std::move(setup));
  const double begin = processor_seconds();
  try {
    observed.result = one.approach->fix(*one.network, context);
  } catch (const FixStopped&) {  // as run_fix() has it
    observed.result = {};
    observed.result.failure = {"timeout", "stopped before there was a fix"};
  } catch (const std::exception& error) {
    observed.thrown = one_line(error);
  }
  stop.close();
  observed.seconds = processor_seconds() - begin;
  observed.log = context.log();
  return observed;
}

cell::RepairCounts repair_counts(const Case& one) {
  const FixContext::Setup setup = one.setup();
  if (!setup.data->has("repair")) return {};
  const Split& split = setup.data->split("repair");
  const at::Tensor classes = one.network->classify(split.inputs(0, split.size()));
  const auto plain = [](const at::Tensor& tensor) {
    const at::Tensor whole = tensor.to(at::kInt).contiguous();
    return std::vector<int32_t>(whole.const_data_ptr<int32_t>(),
                                whole.const_data_ptr<int32_t>() + whole.numel());
  };
  return cell::count_repair(plain(split.labels()), plain(classes));
}

std::optional<Refusal> refusal_of(const Case& one) {
  const FixContext::Setup setup = one.setup();
  const cell::RepairCounts counts = repair_counts(one);
  for (const std::string& split : one.approach->info.needs) {
    if (!setup.data->has(split)) return Refusal{"missing_split", split};
  }
  return one.approach->adapt({.network = one.network,
                              .data = setup.data,
                              .hyperparameters = setup.hyperparameters,
                              .shadow = setup.shadow,
                              .training = setup.training,
                              .history = setup.history,
                              .repair_faults = counts.faults,
                              .repair_correct = counts.correct,
                              .repair_error_types = counts.error_types});
}

}  // namespace harness::testing
