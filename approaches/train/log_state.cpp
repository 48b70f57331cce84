#include "approaches/train/log_state.hpp"

#include <ATen/ATen.h>

namespace harness::train {

void save_series(FixLog& log, const std::vector<std::string>& names, CheckpointState& state) {
  for (const std::string& name : names) state["series." + name] = at::tensor(log.series[name], at::kDouble);
}

namespace {

void assign(std::vector<double>& series, const at::Tensor& values) {
  const double* const first = values.const_data_ptr<double>();
  series.assign(first, first + values.numel());
}

}  // namespace

void load_series(FixLog& log, const std::vector<std::string>& names, const CheckpointState& state) {
  for (const std::string& name : names) {
    assign(log.series[name], state.at("series." + name));
  }
}

void save_log(const FixLog& log, CheckpointState& state) {
  for (const auto& [name, value] : log.counters)
    state["counter." + name] = at::scalar_tensor(value, at::kLong);
  for (const auto& [name, value] : log.scalars)
    state["scalar." + name] = at::scalar_tensor(value, at::kDouble);
  for (const auto& [name, values] : log.series) state["series." + name] = at::tensor(values, at::kDouble);
}

void load_log(FixLog& log, const CheckpointState& state) {
  for (const auto& [key, value] : state) {
    const std::string kind = key.substr(0, key.find('.')), name = key.substr(key.find('.') + 1);
    if (kind == "counter") log.counters[name] = value.item<int64_t>();
    if (kind == "scalar") log.scalars[name] = value.item<double>();
    if (kind == "series") assign(log.series[name], value);
  }
}

}  // namespace harness::train
