#include "harness/data/hdf5.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "harness/core/error.hpp"
#include "harness/core/file_kind.hpp"
#include "harness/core/missing.hpp"
#include "harness/core/trial.hpp"

namespace harness::hdf5 {

namespace {

constexpr size_t kMaxAttributeValues = 1 << 20;
constexpr size_t kMaxTextBytes = size_t{1} << 20;  // of all fixed texts of an attribute
constexpr size_t kMaxNumberBytes = 16;             // of one number of an attribute: long double
// A data set up to this size is read whatever its header says. A larger one must be plausible: deflate packs
// at most 1032 to 1, so the file has to hold enough bytes; and no chunk may be larger than twice the data.
constexpr double kHarmlessBytes = 64 << 20;
constexpr double kMaxPacking = 1100;
constexpr size_t kChunkCache = size_t{64} << 20;  // a slab's chunks are decompressed once

// A damaged file leaves objects inside HDF5 that cannot be closed. HDF5's own cleanup at the end of the
// program would print an error about them, so it is switched off; files are closed by their handles.
const bool no_closing_at_exit = H5dont_atexit() >= 0;

// The number of values of a simple or scalar data space; 0 for an empty one.
size_t value_count(hid_t space) {
  const hssize_t count = H5Sget_simple_extent_npoints(space);
  return count < 1 ? 0 : static_cast<size_t>(count);
}

struct OpenAttribute {
  Handle attribute, type, space;
  size_t count = 0;
  // Whether its values may be read: there are some, and not too many.
  bool is_readable() const { return count > 0 && count <= kMaxAttributeValues; }
};

OpenAttribute open_attribute(hid_t object, const std::string& name) {
  OpenAttribute open;
  open.attribute = Handle(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose);
  if (!open.attribute) return open;
  open.type = Handle(H5Aget_type(open.attribute), H5Tclose);
  open.space = Handle(H5Aget_space(open.attribute), H5Sclose);
  if (open.type && open.space) open.count = value_count(open.space);
  return open;
}

std::vector<std::string> read_variable_strings(const OpenAttribute& open, const Handle& memory) {
  std::vector<char*> pointers(open.count, nullptr);
  std::vector<std::string> texts;
  if (H5Aread(open.attribute, memory, pointers.data()) < 0) return texts;
  for (const char* text : pointers) texts.emplace_back(text == nullptr ? "" : text);
  H5Dvlen_reclaim(memory, open.space, H5P_DEFAULT, pointers.data());
  return texts;
}

std::vector<std::string> read_fixed_strings(const OpenAttribute& open) {
  const size_t length = H5Tget_size(open.type);
  std::vector<std::string> texts;
  if (length == 0 || open.count > kMaxTextBytes / length) return texts;
  std::vector<char> buffer(open.count * length);
  if (H5Aread(open.attribute, open.type, buffer.data()) < 0) return texts;
  const bool padded = H5Tget_strpad(open.type) == H5T_STR_SPACEPAD;
  for (size_t i = 0; i < open.count; ++i) {
    std::string text(buffer.data() + i * length, strnlen(buffer.data() + i * length, length));
    while (padded && !text.empty() && text.back() == ' ') text.pop_back();
    texts.push_back(std::move(text));
  }
  return texts;
}

// Access properties for opening by a path. By default HDF5 opens any file that an external link names; with
// these it does not follow such a link and sets `refused`.
Handle staying_inside(hid_t list_class, bool* refused) {
  Handle access(H5Pcreate(list_class), H5Pclose);
  H5Pset_elink_cb(
      access,
      [](const char*, const char*, const char*, const char*, unsigned*, hid_t, void* seen) -> herr_t {
        *static_cast<bool*>(seen) = true;
        return -1;
      },
      refused);
  return access;
}

double bytes_of(const std::vector<int64_t>& shape, size_t value_bytes) {
  double bytes = static_cast<double>(value_bytes);
  for (const int64_t size : shape) bytes *= static_cast<double>(size);
  return bytes;
}

std::string megabytes(double bytes) {
  return std::to_string(std::lround(bytes / 1e6)) + " MB";
}

// Bytes that the file holds of a data set: what its header says, but at most the size of the file.
double stored_bytes(hid_t dataset) {
  const Handle file(H5Iget_file_id(dataset), H5Fclose);
  hsize_t whole = 0;
  if (!file || H5Fget_filesize(file, &whole) < 0) return 0;
  return static_cast<double>(std::min<hsize_t>(H5Dget_storage_size(dataset), whole));
}

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

}  // namespace

Lock::Lock() : lock_(library_mutex()) {}

Silence::Silence() {
  H5Eget_auto2(H5E_DEFAULT, &print_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Silence::~Silence() {
  H5Eset_auto2(H5E_DEFAULT, print_, data_);
}

std::string last_error() {
  std::string message;
  // walking downwards, the last entry is the innermost
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_DOWNWARD,
      [](unsigned, const H5E_error2_t* error, void* target) -> herr_t {
        if (error->desc != nullptr) *static_cast<std::string*>(target) = error->desc;
        return 0;
      },
      &message);
  return message.empty() ? "no reason given by HDF5" : message;
}

Handle open_file(const std::filesystem::path& file) {
  const std::string name = file.string();
  if (const auto problem = data_file_problem(file)) {
    throw UserError({name, "", problem->found, "a data file (HDF5)", problem->suggestion});
  }
  if (H5Fis_hdf5(name.c_str()) <= 0) {
    const FileContent content = content_of(file);
    if (content.kind == FileKind::hdf5) {
      throw UserError({name, "/", "the beginning of an HDF5 file alone, or a damaged one",
                       "a whole HDF5 file", "copy the whole file again"});
    }
    throw UserError({name, "/", content.found, "a data file (HDF5)", data_remedy(content, file)});
  }
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
#if H5_VERSION_GE(1, 10, 7)
  H5Pset_file_locking(access, false, true);
#endif
  Handle handle(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
  if (!handle) throw UserError({name, "/", "a damaged file (" + last_error() + ")", "a whole HDF5 file", ""});
  return handle;
}

void refuse_damage(const std::filesystem::path& file, const std::function<void()>& read) {
  constexpr int kMaxSeconds = 10;
  const Lock lock;
  const std::string end = ended_by(
      [&] {
        // The copy's only thread has another number than the thread that holds the lock, so it could never
        // take it: the copy gets a new mutex.
        new (&library_mutex()) std::recursive_mutex;
        read();
      },
      kMaxSeconds);
  if (end.empty()) return;
  throw UserError({file.string(), "", "a damaged file: the HDF5 library is ended by it (" + end + ")",
                   "a whole HDF5 file", "copy the file again, or write it again with scripts/prepare"});
}

Link link_kind(hid_t parent, const std::string& name) {
  bool refused = false;
  const Handle access = staying_inside(H5P_LINK_ACCESS, &refused);
  if (H5Lexists(parent, name.c_str(), access) <= 0) return refused ? Link::elsewhere : Link::absent;
  const Handle object(H5Oopen(parent, name.c_str(), access), H5Oclose);
  if (!object) return refused ? Link::elsewhere : Link::other;
  switch (H5Iget_type(object)) {
    case H5I_GROUP:
      return Link::group;
    case H5I_DATASET:
      return Link::dataset;
    default:
      return Link::other;
  }
}

std::vector<std::string> link_names(hid_t group) {
  std::vector<std::string> names;
  hsize_t position = 0;
  H5Literate(
      group, H5_INDEX_NAME, H5_ITER_NATIVE, &position,
      [](hid_t, const char* name, const H5L_info_t*, void* target) -> herr_t {
        static_cast<std::vector<std::string>*>(target)->emplace_back(name);
        return 0;
      },
      &names);
  return names;
}

std::string type_name(hid_t type) {
  const std::string bits = std::to_string(8 * H5Tget_size(type));
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return (H5Tget_sign(type) == H5T_SGN_NONE ? "uint" : "int") + bits;
    case H5T_FLOAT:
      return "float" + bits;
    case H5T_STRING:
      return "text";
    case H5T_COMPOUND:
      return "compound";
    case H5T_ENUM:
      return "enumeration";
    default:
      return "another type";
  }
}

std::optional<DatasetHandle> open_dataset(hid_t parent, const std::string& name) {
  bool refused = false;
  const Handle access = staying_inside(H5P_DATASET_ACCESS, &refused);
  H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, kChunkCache, H5D_CHUNK_CACHE_W0_DEFAULT);
  DatasetHandle open;
  open.dataset = Handle(H5Dopen2(parent, name.c_str(), access), H5Dclose);
  if (!open.dataset) return std::nullopt;
  const Handle type(H5Dget_type(open.dataset), H5Tclose), space(H5Dget_space(open.dataset), H5Sclose);
  if (!type || !space) return std::nullopt;
  open.type = type_name(type);
  open.is_integer = H5Tget_class(type) == H5T_INTEGER;
  open.value_bytes = H5Tget_size(type);
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 0) return std::nullopt;
  std::vector<hsize_t> sizes(static_cast<size_t>(rank));
  if (rank > 0) H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  for (const hsize_t size : sizes) open.shape.push_back(size > INT64_MAX ? -1 : static_cast<int64_t>(size));
  return open;
}

std::string suspicion(const DatasetHandle& source) {
  const Handle made(H5Dget_create_plist(source.dataset), H5Pclose);
  if (!made) return "a data set without a layout";
  if (H5Pget_external_count(made) > 0) {
    char name[256] = "";
    H5Pget_external(made, 0, sizeof name - 1, name, nullptr, nullptr);
    return "a data set whose data lies in another file, " + std::string(name);
  }
  const H5D_layout_t layout = H5Pget_layout(made);
  if (layout == H5D_VIRTUAL) return "a virtual data set, made of data sets of other files";
  const double claimed = bytes_of(source.shape, source.value_bytes);
  if (claimed <= kHarmlessBytes && layout != H5D_CHUNKED) return "";
  if (layout == H5D_CHUNKED) {
    std::vector<hsize_t> chunk(source.shape.size());
    if (H5Pget_chunk(made, static_cast<int>(chunk.size()), chunk.data()) < 0)
      return "a data set without chunks";
    double bytes = static_cast<double>(source.value_bytes);
    for (const hsize_t size : chunk) bytes *= static_cast<double>(size);
    if (bytes > std::max(kHarmlessBytes, 2 * claimed)) {
      return "chunks of " + megabytes(bytes) + " for " + megabytes(claimed) + " of data";
    }
  }
  const double stored = stored_bytes(source.dataset);
  const double maximum = H5Pget_nfilters(made) > 0 ? kMaxPacking * stored : stored;
  if (claimed <= std::max(kHarmlessBytes, maximum)) return "";
  return megabytes(claimed) + " of data, of which the file holds " + megabytes(stored);
}

bool read_rows(const DatasetHandle& source, int64_t begin, int64_t count, hid_t memory_type, void* target) {
  if (count == 0) return true;
  std::vector<hsize_t> start(source.shape.size(), 0), size(source.shape.begin(), source.shape.end());
  start[0] = static_cast<hsize_t>(begin);
  size[0] = static_cast<hsize_t>(count);
  const int rank = static_cast<int>(size.size());
  const Handle file_space(H5Dget_space(source.dataset), H5Sclose);
  const Handle memory_space(H5Screate_simple(rank, size.data(), nullptr), H5Sclose);
  return file_space && memory_space &&
         H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr) >= 0 &&
         H5Dread(source.dataset, memory_type, memory_space, file_space, H5P_DEFAULT, target) >= 0;
}

bool has_attribute(hid_t object, const std::string& name) {
  return H5Aexists(object, name.c_str()) > 0;
}

std::string attribute_type(hid_t object, const std::string& name) {
  const OpenAttribute open = open_attribute(object, name);
  if (!open.type || !open.space) return "an attribute that cannot be read";
  if (open.count == 0) return "an attribute without values";
  const int rank = H5Sget_simple_extent_ndims(open.space);
  const size_t length = H5Tget_size(open.type);
  const bool text = H5Tget_class(open.type) == H5T_STRING && H5Tis_variable_str(open.type) <= 0;
  const std::string count = std::to_string(open.count) + " ";
  return (rank == 0   ? "one "
          : rank == 1 ? "a list of " + count
                      : "a table of " + count) +
         type_name(open.type) +
         (text && length > kMaxTextBytes / open.count ? " of " + std::to_string(length) + " bytes" : "");
}

std::optional<NumericAttribute> read_numbers(hid_t object, const std::string& name) {
  const OpenAttribute open = open_attribute(object, name);
  if (!open.is_readable() || H5Sget_simple_extent_ndims(open.space) > 1) return std::nullopt;
  const H5T_class_t kind = H5Tget_class(open.type);
  if ((kind != H5T_INTEGER && kind != H5T_FLOAT) || H5Tget_size(open.type) > kMaxNumberBytes) {
    return std::nullopt;
  }
  NumericAttribute attribute;
  attribute.is_integer = kind == H5T_INTEGER;
  attribute.scalar = H5Sget_simple_extent_ndims(open.space) == 0;
  attribute.values.resize(open.count);
  if (H5Aread(open.attribute, H5T_NATIVE_DOUBLE, attribute.values.data()) < 0) return std::nullopt;
  return attribute;
}

std::optional<std::vector<std::string>> read_strings(hid_t object, const std::string& name) {
  const OpenAttribute open = open_attribute(object, name);
  if (!open.is_readable() || H5Tget_class(open.type) != H5T_STRING) return std::nullopt;
  std::vector<std::string> texts;
  if (H5Tis_variable_str(open.type) > 0) {
    const Handle memory(H5Tget_native_type(open.type, H5T_DIR_DEFAULT), H5Tclose);
    texts = read_variable_strings(open, memory);
  } else {
    texts = read_fixed_strings(open);
  }
  if (texts.size() != open.count) return std::nullopt;
  return texts;
}

}  // namespace harness::hdf5
