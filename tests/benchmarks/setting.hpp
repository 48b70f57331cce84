#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <string>

// What the harness itself does before it works: threads, and on a GPU no TF32.
inline at::Device set_up(const std::string& device, int threads) {
  if (threads > 0) at::set_num_threads(threads);
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setBenchmarkCuDNN(false);
  return at::Device(device);
}
