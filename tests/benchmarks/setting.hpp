#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

// What the harness itself does before it works: threads, and on a GPU no TF32.
inline at::Device set_up(const std::string& device, int threads) {
  if (threads > 0) at::set_num_threads(threads);
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setBenchmarkCuDNN(false);
  return at::Device(device);
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// main() of a benchmark: errors go to standard error, with exit code 2.
inline int run_benchmark(int (*run)(int argc, char** argv), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
  }
  return 2;
}
