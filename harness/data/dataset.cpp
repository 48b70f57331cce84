#include "harness/data/dataset.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>

#include "harness/core/error.hpp"
#include "harness/core/file_kind.hpp"
#include "harness/core/files.hpp"
#include "harness/core/limits.hpp"
#include "harness/data/hdf5.hpp"
#include "harness/data/split.hpp"

namespace harness {

namespace {

constexpr int64_t kMaxImages = 100'000'000;
constexpr int64_t kMaxValues = int64_t{1} << 30;  // of one image
constexpr double kMaxClasses = 1'000'000;
constexpr int64_t kScanBytes = int64_t{64}
                               << 20;  // float images too many for memory are checked in such pieces

std::string shape_text(const std::vector<int64_t>& shape) {
  if (shape.empty()) return "a single value";
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : "x") + std::to_string(size);
  return text;
}

// Reads one file and collects everything that is wrong with it.
class Opener {
 public:
  Opener(const std::filesystem::path& file, int64_t resident_limit)
      : file_(file),
        resident_limit_(resident_limit),
        root_(std::make_shared<hdf5::Handle>(hdf5::open_file(file))) {}

  void read(const std::map<std::string, int64_t>& limit) {
    refuse_other_layout();
    read_attributes();
    find_unknown_groups();
    std::vector<SplitParts> found;
    for (const std::string& name : kSplitNames) {
      if (auto parts = read_split(name)) {
        names_.push_back(name);
        found.push_back(std::move(*parts));
      }
    }
    if (!any_split_) {
      report_layout("/", "no split", "at least one of the groups train, validation, repair, test");
    }
    if (!shape_.empty()) check_channels();
    stop_at_problems();
    info.shape = shape_;
    info.stored_type = stored_type_;
    for (size_t i = 0; i < found.size(); ++i) finish_split(names_[i], std::move(found[i]), limit);
    stop_at_problems();
  }

  DatasetInfo info;
  std::map<std::string, std::shared_ptr<const Split>> splits;

 private:
  void report(const std::string& place, const std::string& found, const std::string& expected,
              const std::string& suggestion = "") {
    problems_.push_back({file_.string(), place, found, expected, suggestion});
  }

  // The same for a sign that the file has another layout: the suggestion names the command that converts it.
  void report_layout(const std::string& place, const std::string& found, const std::string& expected) {
    report(place, found, expected, foreign_layout_ ? "" : layout_remedy());
    foreign_layout_ = true;
  }

  std::string layout_remedy() const { return data_remedy({FileKind::hdf5, "", ""}, file_); }

  void stop_at_problems() {
    if (!problems_.empty()) throw UserError(std::move(problems_));
  }

  // A file without any of the attributes that every data file has was written for another program.
  void refuse_other_layout() {
    std::string names;
    for (const char* name : kNumbers) {
      if (hdf5::has_attribute(*root_, name)) return;
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    report_layout("/", "an HDF5 file of another layout, without the attributes " + names,
                  "a data file of the harness: groups of images (N,C,H,W) and labels (N), these attributes");
    stop_at_problems();
  }

  static constexpr std::array kNumbers = {"classes", "divisor", "mean", "std"};

  // A numeric attribute of the root. Empty where it is absent or has another type, which is then reported.
  std::vector<double> numbers(const std::string& name, const std::string& expected, bool whole) {
    if (!hdf5::has_attribute(*root_, name)) {
      report_layout("/@" + name, "no such attribute", expected);
      return {};
    }
    const auto attribute = hdf5::read_numbers(*root_, name);
    if (!attribute || (whole && !attribute->is_integer)) {
      report("/@" + name, hdf5::attribute_type(*root_, name), expected);
      return {};
    }
    return attribute->values;
  }

  void read_attributes() {
    const std::string whole = "a whole number from 2 to " + format_number(kMaxClasses);
    const std::vector<double> classes = numbers("classes", whole, true);
    if (classes.size() == 1 && classes[0] >= 2 && classes[0] <= kMaxClasses) {
      info.classes = static_cast<int64_t>(classes[0]);
    } else if (!classes.empty()) {
      report("/@classes", alone_or_count(classes), whole);
    }
    const std::string maximum = format_number(kMaxNumber);
    const std::string above = "from " + format_number(kMinNumber) + " to " + maximum;
    const auto is_above = [](double value) { return value >= kMinNumber && value <= kMaxNumber; };
    const std::vector<double> divisor = numbers("divisor", "a number " + above, false);
    if (divisor.size() == 1 && is_above(divisor[0])) {
      info.divisor = divisor[0];
    } else if (!divisor.empty()) {
      report("/@divisor", alone_or_count(divisor), "a number " + above);
    }
    const size_t before = problems_.size();
    info.mean = numbers("mean", "one number per channel", false);
    info.std = numbers("std", "one number above 0 per channel", false);
    check_each("mean", info.mean, "numbers from -" + maximum + " to " + maximum,
               [](double value) { return std::abs(value) <= kMaxNumber; });
    check_each("std", info.std, "numbers " + above, is_above);
    can_normalise_ = problems_.size() == before;
    read_group_names();
  }

  static std::string alone_or_count(const std::vector<double>& values) {
    return values.size() == 1 ? describe(values[0]) : std::to_string(values.size()) + " values";
  }

  static std::string describe(double value) { return std::isnan(value) ? "NaN" : format_number(value); }

  template <typename IsRight>
  void check_each(const std::string& name, const std::vector<double>& values, const std::string& expected,
                  IsRight is_right) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (is_right(values[i])) continue;
      report("/@" + name, describe(values[i]) + " for channel " + std::to_string(i), expected);
      return;
    }
  }

  void read_group_names() {
    if (!hdf5::has_attribute(*root_, "group_names")) return;
    const auto names = hdf5::read_strings(*root_, "group_names");
    if (names && names->size() == 2 && (*names)[0] != (*names)[1] && !(*names)[0].empty() &&
        !(*names)[1].empty()) {
      info.group_names = *names;
    } else {
      report("/@group_names", hdf5::attribute_type(*root_, "group_names"), "two different names");
    }
  }

  // A group that looks like a split but has another name is probably misspelt, so it is an error.
  void find_unknown_groups() {
    for (const std::string& name : hdf5::link_names(*root_)) {
      if (std::count(kSplitNames.begin(), kSplitNames.end(), name) > 0) continue;
      if (hdf5::link_kind(*root_, name) == hdf5::Link::group &&
          hdf5::link_kind(*root_, name + "/images") != hdf5::Link::absent) {
        any_split_ = true;
        report("/" + name, "a group of images with an unknown name", "train, validation, repair or test",
               nearest_name(name, kSplitNames));
      }
    }
  }

  std::optional<hdf5::DatasetHandle> open_dataset(const std::string& path, const std::string& expected) {
    const hdf5::Link kind = hdf5::link_kind(*root_, path);
    if (kind == hdf5::Link::absent) {
      report(path, "nothing", expected);
      return std::nullopt;
    }
    auto open = kind == hdf5::Link::dataset ? hdf5::open_dataset(*root_, path) : std::nullopt;
    if (!open) {
      report(path, kind == hdf5::Link::group ? "a group" : unread(kind), expected);
      return std::nullopt;
    }
    if (const std::string why = hdf5::suspicion(*open); !why.empty()) {
      report(path, why, "data that lies in this file");
      return std::nullopt;
    }
    return open;
  }

  static std::string unread(hdf5::Link kind) {
    return kind == hdf5::Link::elsewhere ? "a link into another file" : "an object that cannot be read";
  }

  // Opens a split and checks everything except the pixels.
  std::optional<SplitParts> read_split(const std::string& name) {
    const std::string path = "/" + name;
    const hdf5::Link kind = hdf5::link_kind(*root_, name);
    if (kind == hdf5::Link::absent) return std::nullopt;
    any_split_ = true;
    if (kind != hdf5::Link::group) {
      report(path, kind == hdf5::Link::dataset ? "a data set" : unread(kind),
             "a group with images and labels");
      return std::nullopt;
    }
    SplitParts parts;
    parts.path = path;
    parts.file = file_;
    parts.open_file = root_;
    auto images = open_dataset(path + "/images", "images (N,C,H,W; uint8 or float32)");
    const bool good_images = images && check_images(path, *images);
    const std::optional<int64_t> size = good_images ? std::optional(images->shape[0]) : std::nullopt;
    parts.labels = read_labels(path, size);
    parts.groups = read_groups(path, size);
    if (!good_images) return std::nullopt;
    parts.images = std::move(*images);
    parts.size = *size;
    return parts;
  }

  bool check_images(const std::string& path, const hdf5::DatasetHandle& images) {
    const std::string place = path + "/images";
    const size_t before = problems_.size();
    if (images.type != "uint8" && images.type != "float32") {
      report_layout(place, images.type, "uint8 or float32");
    }
    if (images.shape.size() != 4) {
      report_layout(place, shape_text(images.shape) + " (rank " + std::to_string(images.shape.size()) + ")",
                    "rank 4: N,C,H,W");
      return false;
    }
    double values = 1;
    for (size_t i = 1; i < 4; ++i) values *= std::max(0.0, static_cast<double>(images.shape[i]));
    if (images.shape[0] < 1 || images.shape[0] > kMaxImages || values < 1 || values > kMaxValues) {
      report(place, shape_text(images.shape),
             "1 to " + std::to_string(kMaxImages) + " images of at least 1x1x1 values");
      return false;
    }
    const std::vector<int64_t> shape(images.shape.begin() + 1, images.shape.end());
    if (shape_.empty()) {
      shape_ = shape;
      shape_origin_ = place;
      stored_type_ = images.type;
    }
    if (shape != shape_) {
      report(place, "images of " + shape_text(shape), shape_text(shape_) + " as in " + shape_origin_);
    }
    if (images.type != stored_type_ && problems_.size() == before) {
      report(place, images.type, stored_type_ + " as in " + shape_origin_);
    }
    return problems_.size() == before;
  }

  void check_channels() {
    const size_t channels = static_cast<size_t>(shape_[0]);
    for (const auto& [name, values] : {std::pair("mean", &info.mean), std::pair("std", &info.std)}) {
      if (values->empty() || values->size() == channels) continue;
      const std::string found = std::to_string(values->size()) + " numbers";
      const std::string expected = std::to_string(channels) + ", one per channel of " + shape_origin_;
      if (values->size() == static_cast<size_t>(shape_[2])) {  // N,H,W,C
        report_layout(std::string("/@") + name, found, expected);
      } else {
        report(std::string("/@") + name, found, expected);
      }
    }
    for (size_t i = 0; can_normalise_ && i < std::min(info.mean.size(), info.std.size()); ++i) {
      const double max_value = (255 / info.divisor + std::abs(info.mean[i])) / info.std[i];
      if (max_value < FLT_MAX) continue;
      report("/@std",
             describe(info.std[i]) + " for channel " + std::to_string(i) + ", with the divisor " +
                 describe(info.divisor) + " and the mean " + describe(info.mean[i]),
             "values that leave inputs finite in single precision");
      return;
    }
  }

  // One integer per image. Undefined where that cannot be read; reported where `size` is known.
  at::Tensor read_column(const std::string& place, const hdf5::DatasetHandle& source,
                         std::optional<int64_t> size) {
    if (source.shape.size() != 1) {
      report_layout(place, shape_text(source.shape) + " (rank " + std::to_string(source.shape.size()) + ")",
                    "rank 1: N");
      return {};
    }
    if (!size) return {};
    if (source.shape[0] != *size) {
      report(place, std::to_string(source.shape[0]) + " values", std::to_string(*size) + ", one per image");
      return {};
    }
    at::Tensor column = at::empty({*size}, at::kLong);
    if (hdf5::read_rows(source, 0, *size, H5T_NATIVE_INT64, column.data_ptr())) return column;
    report(place, "values that cannot be read (" + hdf5::last_error() + ")", "a whole file");
    return {};
  }

  void check_values(const std::string& place, const at::Tensor& column, int64_t below,
                    const std::string& expected) {
    const int64_t* data = column.const_data_ptr<int64_t>();
    const int64_t* wrong =
        std::find_if(data, data + column.numel(), [&](int64_t value) { return value < 0 || value >= below; });
    if (wrong == data + column.numel()) return;
    report(place, std::to_string(*wrong) + " for image " + std::to_string(wrong - data), expected);
  }

  at::Tensor read_labels(const std::string& path, std::optional<int64_t> size) {
    const std::string place = path + "/labels";
    const auto source = open_dataset(place, "labels (N; integers)");
    if (!source) return {};
    if (!source->is_integer || source->value_bytes > sizeof(int64_t)) {
      report_layout(place, source->type, "integers of at most 64 bits");
      return {};
    }
    const at::Tensor labels = read_column(place, *source, size);
    if (labels.defined() && info.classes > 0) {
      check_values(place, labels, info.classes,
                   "0 to " + std::to_string(info.classes - 1) + " (attribute classes is " +
                       std::to_string(info.classes) + ")");
    }
    return labels;
  }

  at::Tensor read_groups(const std::string& path, std::optional<int64_t> size) {
    const std::string place = path + "/group";
    if (hdf5::link_kind(*root_, place) == hdf5::Link::absent) return {};
    const auto source = open_dataset(place, "group (N; uint8, 0 or 1)");
    if (!source) return {};
    if (source->type != "uint8") {
      report(place, source->type, "uint8");
      return {};
    }
    const at::Tensor groups = read_column(place, *source, size);
    if (!groups.defined()) return {};
    check_values(place, groups, 2, "0 or 1");
    return groups.to(at::kByte);
  }

  void finish_split(const std::string& name, SplitParts parts, const std::map<std::string, int64_t>& limit) {
    if (const auto wanted = limit.find(name); wanted != limit.end() && wanted->second < parts.size) {
      parts.size = wanted->second;
      parts.labels = parts.labels.narrow(0, 0, parts.size).clone();
      if (parts.groups.defined()) parts.groups = parts.groups.narrow(0, 0, parts.size).clone();
    }
    const bool is_float = info.stored_type == "float32";
    const int64_t image_bytes = shape_[0] * shape_[1] * shape_[2] * (is_float ? 4 : 1);
    const bool resident = parts.size * image_bytes <= resident_limit_;
    try {
      const int64_t piece = std::max<int64_t>(1, kScanBytes / image_bytes);
      for (int64_t begin = 0; is_float && !resident && begin < parts.size; begin += piece) {
        read_raw(parts, begin, std::min(begin + piece, parts.size));
      }
      splits[name] = make_split(std::move(parts), info, resident);
    } catch (const UserError& error) {
      problems_.insert(problems_.end(), error.problems().begin(), error.problems().end());
    }
  }

  std::filesystem::path file_;
  int64_t resident_limit_;
  std::shared_ptr<hdf5::Handle> root_;
  std::vector<Problem> problems_;
  bool any_split_ = false, foreign_layout_ = false;
  bool can_normalise_ = false;  // mean and std are present and valid
  std::vector<std::string> names_;
  std::vector<int64_t> shape_;
  std::string shape_origin_, stored_type_;
};

void check_limit(const std::map<std::string, int64_t>& limit) {
  std::vector<Problem> problems;
  for (const auto& [name, count] : limit) {
    if (std::count(kSplitNames.begin(), kSplitNames.end(), name) == 0) {
      problems.push_back({"command line", "--limit", "split " + name, "train, validation, repair or test",
                          nearest_name(name, kSplitNames)});
    } else if (count < 1) {
      problems.push_back(
          {"command line", "--limit", name + "=" + std::to_string(count), "a number above 0", ""});
    }
  }
  if (!problems.empty()) throw UserError(std::move(problems));
}

}  // namespace

Dataset Dataset::open(const std::filesystem::path& file, const std::map<std::string, int64_t>& limit,
                      int64_t resident_limit) {
  check_limit(limit);
  const hdf5::Lock lock;
  const hdf5::Silence silence;
  hdf5::refuse_damage(file, [&] {
    at::set_num_threads(1);  // the copy of this process has no other threads
    std::map<std::string, int64_t> one_image;
    for (const std::string& name : kSplitNames) one_image[name] = 1;
    Opener(file, kResidentLimit).read(one_image);
  });
  Opener opener(file, resident_limit);
  opener.read(limit);
  Dataset dataset;
  dataset.file_ = file;
  dataset.info_ = std::move(opener.info);
  dataset.splits_ = std::move(opener.splits);
  return dataset;
}

const Split& Dataset::split(const std::string& name) const {
  const auto entry = splits_.find(name);
  if (entry == splits_.end()) interface_misuse("the data set has no split " + name);
  return *entry->second;
}

std::vector<std::string> Dataset::split_names() const {
  std::vector<std::string> names;
  for (const std::string& name : kSplitNames) {
    if (has(name)) names.push_back(name);
  }
  return names;
}

}  // namespace harness
