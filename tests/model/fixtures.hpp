#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>

#include "harness/model/network.hpp"

namespace harness::testing {

// NAME_scripted or NAME_traced of fixtures.py, made once per process.
std::filesystem::path fixture(const std::string& name);
at::Tensor images(int64_t count);  // (count,3,8,8), seeded
Network load_fixture(const std::string& name);
// Greatest absolute difference over the greatest absolute value of `expected`.
double relative_difference(const at::Tensor& found, const at::Tensor& expected);

}  // namespace harness::testing
