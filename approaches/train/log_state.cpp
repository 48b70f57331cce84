#include "approaches/train/log_state.hpp"

#include <ATen/ATen.h>

namespace harness {

void save_series(FixLog& log, const std::vector<std::string>& names, CheckpointState& state) {
  for (const std::string& name : names) state["series." + name] = at::tensor(log.series[name], at::kDouble);
}

void load_series(FixLog& log, const std::vector<std::string>& names, const CheckpointState& state) {
  for (const std::string& name : names) {
    const at::Tensor values = state.at("series." + name);
    const double* const first = values.const_data_ptr<double>();
    log.series[name].assign(first, first + values.numel());
  }
}

}  // namespace harness
