// The object that carries the tests' precompiled header (pch.hpp).
