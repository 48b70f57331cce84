// What computes sees this one. LibTorch's headers take about 20 seconds a source file, with this header 1.5;
// every further header in it costs each of 40 sources its share (autograd.h half a second:
// harness/model/autograd.hpp).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>
