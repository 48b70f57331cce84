#include "tests/data/writer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>

namespace harness::testing {

namespace {

void must(bool success, const std::string& what) {
  if (!success) throw std::runtime_error("cannot write " + what);
}

hid_t type_of(const at::Tensor& values) {
  switch (values.scalar_type()) {
    case at::kByte:
      return H5T_NATIVE_UINT8;
    case at::kFloat:
      return H5T_NATIVE_FLOAT;
    case at::kDouble:
      return H5T_NATIVE_DOUBLE;
    case at::kLong:
      return H5T_NATIVE_INT64;
    default:
      throw std::runtime_error("no such type in the tests");
  }
}

}  // namespace

Writer::Writer(const std::filesystem::path& file)
    : file_(H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose),
      create_groups_(H5Pcreate(H5P_LINK_CREATE), H5Pclose) {
  must(bool(file_), file.string());
  H5Pset_create_intermediate_group(create_groups_, 1);
}

void Writer::tensor(const std::string& path, const at::Tensor& values, hid_t stored, bool compressed) {
  const at::Tensor data = values.contiguous();
  const std::vector<hsize_t> size(data.sizes().begin(), data.sizes().end());
  const hdf5::Handle space(data.dim() == 0
                               ? H5Screate(H5S_SCALAR)
                               : H5Screate_simple(static_cast<int>(data.dim()), size.data(), nullptr),
                           H5Sclose);
  const hdf5::Handle create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  if (compressed) {
    std::vector<hsize_t> chunk = size;
    chunk[0] = std::min<hsize_t>(2, size[0]);
    H5Pset_chunk(create, static_cast<int>(chunk.size()), chunk.data());
    H5Pset_deflate(create, 4);
  }
  const hid_t type = stored < 0 ? type_of(data) : stored;
  const hdf5::Handle dataset(
      H5Dcreate2(file_, path.c_str(), type, space, create_groups_, create, H5P_DEFAULT), H5Dclose);
  must(bool(dataset), path);
  if (data.numel() == 0) return;
  must(H5Dwrite(dataset, type_of(data), H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data_ptr()) >= 0, path);
}

void Writer::group(const std::string& path) {
  const hdf5::Handle made(H5Gcreate2(file_, path.c_str(), create_groups_, H5P_DEFAULT, H5P_DEFAULT),
                          H5Gclose);
  must(bool(made), path);
}

void Writer::remove(const std::string& path) {
  must(H5Ldelete(file_, path.c_str(), H5P_DEFAULT) >= 0, path);
}

void Writer::number(const std::string& attribute, double value, hid_t stored) {
  const hdf5::Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const hdf5::Handle made(H5Acreate2(file_, attribute.c_str(), stored, space, H5P_DEFAULT, H5P_DEFAULT),
                          H5Aclose);
  must(made && H5Awrite(made, H5T_NATIVE_DOUBLE, &value) >= 0, attribute);
}

void Writer::numbers(const std::string& attribute, const std::vector<double>& values) {
  const hsize_t size = values.size();
  const hdf5::Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
  const hdf5::Handle made(
      H5Acreate2(file_, attribute.c_str(), H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  must(made && (values.empty() || H5Awrite(made, H5T_NATIVE_DOUBLE, values.data()) >= 0), attribute);
}

void Writer::texts(const std::string& attribute, const std::vector<std::string>& values, bool fixed) {
  constexpr size_t kLength = 12;
  const hsize_t size = values.size();
  const hdf5::Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
  const hdf5::Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, fixed ? kLength : H5T_VARIABLE);
  const hdf5::Handle made(H5Acreate2(file_, attribute.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT),
                          H5Aclose);
  std::vector<const char*> pointers;
  std::string block;
  for (const std::string& value : values) {
    pointers.push_back(value.c_str());
    std::string padded = value;
    padded.resize(kLength, '\0');
    block += padded;
  }
  const void* source = fixed ? static_cast<const void*>(block.data()) : pointers.data();
  must(made && H5Awrite(made, type, source) >= 0, attribute);
}

void Writer::remove_attribute(const std::string& attribute) {
  must(H5Adelete(file_, attribute.c_str()) >= 0, attribute);
}

Writer write_good_file(const std::filesystem::path& file, const FileOptions& options) {
  Writer writer(file);
  int64_t offset = 0;
  for (const auto& [name, count] : {std::pair("train", 6), std::pair("repair", 5), std::pair("test", 4)}) {
    const std::string path = std::string("/") + name;
    at::Tensor images = at::arange(offset, offset + count * 24).remainder(251).reshape({count, 2, 3, 4});
    offset += count * 24;
    writer.tensor(path + "/images", images.to(options.floats ? at::kFloat : at::kByte), -1,
                  options.compressed);
    writer.tensor(path + "/labels", at::arange(count).remainder(3));
    if (path != "/train") writer.tensor(path + "/group", at::arange(count).remainder(2).to(at::kByte));
  }
  writer.number("classes", 3, H5T_NATIVE_INT64);
  writer.number("divisor", 255, H5T_NATIVE_DOUBLE);
  writer.numbers("mean", {0.25, 0.5});
  writer.numbers("std", {0.5, 0.2});
  writer.texts("group_names", {"light", "dark"}, false);
  return writer;
}

}  // namespace harness::testing
