#include "harness/data/subset.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/data/hdf5.hpp"

namespace harness {

namespace {

constexpr int64_t kSlabBytes = int64_t{64} << 20;

class SubsetWriter {
 public:
  SubsetWriter(const std::filesystem::path& source, const std::filesystem::path& target)
      : source_name_(source.string()), target_name_(target.string()), source_(hdf5::open_file(source)) {
    const hdf5::Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access, false, true);  // as for reading: many cluster file systems refuse locks
#endif
    target_ = hdf5::Handle(H5Fcreate(target_name_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
    must_write(bool(target_), "/");
  }

  void copy_attributes() {
    hsize_t position = 0;
    std::vector<std::string> names;
    H5Aiterate2(
        source_, H5_INDEX_NAME, H5_ITER_NATIVE, &position,
        [](hid_t, const char* name, const H5A_info_t*, void* list) -> herr_t {
          static_cast<std::vector<std::string>*>(list)->emplace_back(name);
          return 0;
        },
        &names);
    for (const std::string& name : names) copy_attribute(name);
  }

  void copy_split(const std::string& name, const Split& split) {
    const hdf5::Handle group(H5Gcreate2(target_, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                             H5Gclose);
    must_write(bool(group), "/" + name);
    copy_images("/" + name + "/images", split.size());
    write_column("/" + name + "/labels", split.labels(), H5T_NATIVE_INT64);
    if (split.groups().defined()) write_column("/" + name + "/group", split.groups(), H5T_NATIVE_UINT8);
  }

  // Closing a handle reports no error, so what is not written yet is flushed here, where a failure is seen.
  void finish() {
    must_write(H5Fflush(target_, H5F_SCOPE_GLOBAL) >= 0, "/");
  }

 private:
  void must_read(bool success, const std::string& place) const {
    if (success) return;
    throw UserError(
        {source_name_, place, "data that cannot be read (" + hdf5::last_error() + ")", "a whole file", ""});
  }
  void must_write(bool success, const std::string& place) const {
    if (success) return;
    throw UserError({target_name_, place, "a failure to write (" + hdf5::last_error() + ")",
                     "a place that can be written to", ""});
  }

  void copy_attribute(const std::string& name) const {
    const std::string place = "/@" + name;
    const hdf5::Handle from(H5Aopen(source_, name.c_str(), H5P_DEFAULT), H5Aclose);
    must_read(bool(from), place);
    const hdf5::Handle stored(H5Aget_type(from), H5Tclose), space(H5Aget_space(from), H5Sclose);
    const hdf5::Handle type(H5Tcopy(stored), H5Tclose);  // a named type belongs to the source file
    const hdf5::Handle memory(H5Tget_native_type(stored, H5T_DIR_DEFAULT), H5Tclose);
    must_read(type && space && memory, place);
    const hdf5::Handle to(H5Acreate2(target_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    must_write(bool(to), place);
    const hssize_t count = H5Sget_simple_extent_npoints(space);
    if (count < 1) return;
    std::vector<char> values(static_cast<size_t>(count) * H5Tget_size(memory));
    must_read(H5Aread(from, memory, values.data()) >= 0, place);
    const bool written = H5Awrite(to, memory, values.data()) >= 0;
    H5Dvlen_reclaim(memory, space, H5P_DEFAULT, values.data());  // texts of any length; does nothing else
    must_write(written, place);
  }

  void copy_images(const std::string& path, int64_t count) const {
    const auto images = hdf5::open_dataset(source_, path);
    must_read(images && images->shape.size() == 4 && images->shape[0] >= count, path);
    const hid_t type = images->is_integer ? H5T_NATIVE_UINT8 : H5T_NATIVE_FLOAT;
    std::vector<hsize_t> size(images->shape.begin(), images->shape.end());
    size[0] = static_cast<hsize_t>(count);
    const hdf5::Handle target = create(path, type, size);
    const hdf5::Handle file_space(H5Dget_space(target), H5Sclose);
    const auto image_bytes = static_cast<int64_t>(size[1] * size[2] * size[3] * H5Tget_size(type));
    const int64_t slab = std::clamp<int64_t>(kSlabBytes / image_bytes, 1, count);
    std::vector<char> buffer(static_cast<size_t>(slab * image_bytes));
    for (int64_t begin = 0; begin < count; begin += slab) {
      const int64_t rows = std::min(slab, count - begin);
      must_read(hdf5::read_rows(*images, begin, rows, type, buffer.data()), path);
      std::vector<hsize_t> start(size.size(), 0), block = size;
      start[0] = static_cast<hsize_t>(begin);
      block[0] = static_cast<hsize_t>(rows);
      const hdf5::Handle memory(H5Screate_simple(static_cast<int>(block.size()), block.data(), nullptr),
                                H5Sclose);
      must_write(H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start.data(), nullptr, block.data(),
                                     nullptr) >= 0 &&
                     H5Dwrite(target, type, memory, file_space, H5P_DEFAULT, buffer.data()) >= 0,
                 path);
    }
  }

  void write_column(const std::string& path, const at::Tensor& values, hid_t type) const {
    const hdf5::Handle target = create(path, type, {static_cast<hsize_t>(values.numel())});
    must_write(
        H5Dwrite(target, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.contiguous().const_data_ptr()) >= 0,
        path);
  }

  hdf5::Handle create(const std::string& path, hid_t type, const std::vector<hsize_t>& size) const {
    const hdf5::Handle space(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr), H5Sclose);
    hdf5::Handle dataset(
        H5Dcreate2(target_, path.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose);
    must_write(bool(dataset), path);
    return dataset;
  }

  std::string source_name_, target_name_;
  hdf5::Handle source_, target_;
};

}  // namespace

std::vector<std::string> write_subset(const Dataset& data, const std::vector<std::string>& splits,
                                      const std::filesystem::path& file) {
  const hdf5::Silence silence;
  SubsetWriter writer(data.file(), file);
  writer.copy_attributes();
  std::vector<std::string> written;
  for (const std::string& name : data.split_names()) {
    if (std::find(splits.begin(), splits.end(), name) == splits.end()) continue;
    writer.copy_split(name, data.split(name));
    written.push_back(name);
  }
  writer.finish();
  return written;
}

}  // namespace harness
