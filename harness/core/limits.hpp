#pragma once

namespace harness {

// Smallest and largest magnitude of numbers in configurations and data files. Single precision holds them,
// and what is computed from them.
inline constexpr double kMinNumber = 1e-30, kMaxNumber = 1e30;

// Largest budget: thirty years in seconds, a thousand machines in megabytes.
inline constexpr double kMaxBudget = 1e9;

}  // namespace harness
