#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Thin owners over the HDF5 C API; for the sources of harness/data only. A data file may come from anybody:
// it never makes the reader open another file, and never makes it reserve memory for data that it cannot
// hold.
namespace harness::hdf5 {

// An identifier of HDF5 with the function that gives it back.
class Handle {
 public:
  Handle() = default;
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  explicit operator bool() const { return id_ >= 0; }
  operator hid_t() const { return id_; }

 private:
  hid_t id_ = -1;
  herr_t (*close_)(hid_t) = nullptr;
};

// HDF5 is not made for several threads: whoever reads while a BatchReader may be reading ahead holds this.
class Lock {
 public:
  Lock();

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

// While one lives, HDF5 does not print its stack of errors. Ours are exceptions.
class Silence {
 public:
  Silence();
  ~Silence();
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  H5E_auto2_t print_ = nullptr;
  void* data_ = nullptr;
};

// The innermost message of the last failure: "truncated file: eof = 800, ...".
std::string last_error();

// HDF5 reads beyond its memory, or on and on, where a damaged file tells it to. So `read`, which reads what
// will be read of the file, is tried in a copy of this process first. Throws UserError where that is ended.
void refuse_damage(const std::filesystem::path& file, const std::function<void()>& read);

// Read-only and without file locks, which many cluster file systems refuse. Throws UserError.
Handle open_file(const std::filesystem::path& file);

enum class Link { absent, group, dataset, elsewhere, other };  // elsewhere: in another file, not opened
Link link_kind(hid_t parent, const std::string& name);
std::vector<std::string> link_names(hid_t group);

// "uint8", "float32", "text", "compound" ...
std::string type_name(hid_t type);

struct DatasetHandle {
  Handle dataset;
  std::string type;
  bool is_integer = false;
  size_t value_bytes = 0;      // of one value in the file
  std::vector<int64_t> shape;  // a size that no int64 holds is -1
};
// Empty optional where it cannot be opened, or only by way of another file.
std::optional<DatasetHandle> open_dataset(hid_t parent, const std::string& name);

// Why a data set is not to be read, in the words of a problem's "found"; empty: nothing speaks against it.
// Its data lies in other files (external storage, virtual data sets), or it claims more of it than there is.
std::string suspicion(const DatasetHandle& source);

// Rows [begin, begin + count) along the first dimension, as `memory_type`; false where HDF5 fails.
bool read_rows(const DatasetHandle& source, int64_t begin, int64_t count, hid_t memory_type, void* target);

struct NumericAttribute {
  std::vector<double> values;
  bool scalar = false;
  bool is_integer = false;
};
bool has_attribute(hid_t object, const std::string& name);
std::string attribute_type(hid_t object, const std::string& name);                    // "a list of 3 float64"
std::optional<NumericAttribute> read_numbers(hid_t object, const std::string& name);  // empty: no numbers
std::optional<std::vector<std::string>> read_strings(hid_t object,
                                                     const std::string& name);  // empty: no texts

}  // namespace harness::hdf5
