// The precompiled header of the tests: the one of all sources. Catch2 is not in it, as tests/support.hpp has
// to take macros of LibTorch away before.
#include "cmake/pch.hpp"
