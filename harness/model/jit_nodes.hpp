#pragma once

// Internal to harness/model. LibTorch's header has no guard of its own, and sources may be compiled together.
#include <torch/csrc/jit/runtime/graph_iterator.h>
