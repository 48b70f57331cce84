#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "harness/data/hdf5.hpp"

namespace harness::testing {

// Writes HDF5 files, right and wrong ones, for the tests of the reader.
class Writer {
 public:
  explicit Writer(const std::filesystem::path& file);
  // Also creates the groups on the way. The type in the file is the tensor's, unless `stored` names another.
  void tensor(const std::string& path, const at::Tensor& values, hid_t stored = -1, bool compressed = false);
  void group(const std::string& path);
  void remove(const std::string& path);
  void number(const std::string& attribute, double value, hid_t stored);
  void numbers(const std::string& attribute, const std::vector<double>& values);
  void texts(const std::string& attribute, const std::vector<std::string>& values, bool fixed);
  void remove_attribute(const std::string& attribute);

 private:
  hdf5::Handle file_, create_groups_;
};

// A right file: train 6, repair 5 and test 4 images of 2x3x4, 3 classes; uint8 values 0, 1, 2 ... in storage
// order (modulo 251), labels 0, 1, 2, 0 ..., group 0, 1, 0 ... in repair and test.
struct FileOptions {
  bool floats = false;      // the same values as float32
  bool compressed = false;  // in chunks of two images
};
Writer write_good_file(const std::filesystem::path& file, const FileOptions& options = {});

}  // namespace harness::testing
