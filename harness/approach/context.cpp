#include "harness/approach/context.hpp"

#include <algorithm>

#include "harness/core/error.hpp"

namespace harness {
namespace {

void demand_declared(const ApproachInfo& info, const std::string& split) {
  const auto holds = [&](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), split) != names.end();
  };
  if (split == "test" || (!holds(info.needs) && !holds(info.uses))) {
    interface_misuse("approach " + info.key + " uses the split \"" + split + "\", which it did not declare");
  }
}

}  // namespace

FixContext::FixContext(Setup setup) : setup_(std::move(setup)) {
  if (setup_.info == nullptr || setup_.data == nullptr)
    interface_misuse("FixContext without approach or data");
  if (setup_.checkpoint.load) saved_ = setup_.checkpoint.load();
}

const Split& FixContext::split(const std::string& name) const {
  demand_declared(*setup_.info, name);
  return setup_.data->split(name);
}

bool FixContext::has_split(const std::string& name) const {
  demand_declared(*setup_.info, name);
  return setup_.data->has(name);
}

uint64_t FixContext::seed(std::string_view purpose) const {
  return derive_seed(setup_.seed, purpose);
}

RandomStream FixContext::stream(std::string_view purpose) const {
  return RandomStream(seed(purpose));
}

void FixContext::save_checkpoint(const CheckpointState& state) const {
  if (setup_.checkpoint.save) setup_.checkpoint.save(state, log_);
}

void FixContext::progress(double done, const std::string& what) const {
  if (setup_.progress) setup_.progress(done, what);
}

}  // namespace harness
