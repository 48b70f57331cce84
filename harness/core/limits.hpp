#pragma once

namespace harness {

// The least and the most that numbers of configurations and data files may be in size: single precision has
// room for them and for what is made of them.
inline constexpr double kMinNumber = 1e-30, kMaxNumber = 1e30;

// The most of a budget: seconds of thirty years, megabytes of a thousand machines.
inline constexpr double kMaxBudget = 1e9;

}  // namespace harness
