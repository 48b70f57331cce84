#include "harness/model/random_draws.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

namespace harness {

DrawWatch::DrawWatch(at::Device device) : device_(device), before_(states()) {}

bool DrawWatch::drawn() const {
  const std::vector<at::Tensor> now = states();
  for (size_t i = 0; i < now.size(); ++i) {
    if (!now[i].equal(before_[i])) return true;
  }
  return false;
}

std::vector<at::Tensor> DrawWatch::states() const {
  std::vector<at::Generator> generators = {at::detail::getDefaultCPUGenerator()};
  if (!device_.is_cpu()) generators.push_back(at::globalContext().defaultGenerator(device_));
  std::vector<at::Tensor> states;
  for (at::Generator& generator : generators) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states.push_back(generator.get_state());
  }
  return states;
}

}  // namespace harness
