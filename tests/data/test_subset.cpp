#include <ATen/ATen.h>

#include "harness/core/error.hpp"
#include "harness/data/subset.hpp"
#include "tests/data/writer.hpp"
#include "tests/support.hpp"

using namespace harness;
using testing::TemporaryFolder;
using testing::write_good_file;
using testing::Writer;

namespace {

using Names = std::vector<std::string>;

void check_same(const Split& copy, const Split& split) {
  REQUIRE(copy.size() == split.size());
  CHECK(at::equal(copy.inputs(0, copy.size()), split.inputs(0, split.size())));
  CHECK(at::equal(copy.labels(), split.labels()));
  REQUIRE(copy.groups().defined() == split.groups().defined());
  if (copy.groups().defined()) CHECK(at::equal(copy.groups(), split.groups()));
}

}  // namespace

TEST_CASE("a subset has the splits that were named, as they were") {
  TemporaryFolder folder;
  for (const bool floats : {false, true}) {
    for (const bool compressed : {false, true}) {
      INFO("floats " << floats << " compressed " << compressed);
      write_good_file(folder / "x.h5", {floats, compressed});
      const Dataset data = Dataset::open(folder / "x.h5");
      CHECK(write_subset(data, {"repair", "train", "validation"}, folder / "y.h5") ==
            Names{"train", "repair"});
      const Dataset copy = Dataset::open(folder / "y.h5");
      CHECK(copy.split_names() == Names{"train", "repair"});
      CHECK(copy.info().stored_type == data.info().stored_type);
      CHECK(copy.info().classes == 3);
      CHECK(copy.info().divisor == 255);
      CHECK(copy.info().mean == data.info().mean);
      CHECK(copy.info().std == data.info().std);
      CHECK(copy.info().group_names == data.info().group_names);
      for (const char* name : {"train", "repair"}) check_same(copy.split(name), data.split(name));
    }
  }
}

TEST_CASE("a subset goes as far as the limit") {
  TemporaryFolder folder;
  write_good_file(folder / "x.h5", {false, true});
  const Dataset data = Dataset::open(folder / "x.h5", {{"repair", 3}});
  write_subset(data, {"repair", "train"}, folder / "y.h5");
  const Dataset copy = Dataset::open(folder / "y.h5");
  CHECK(copy.split("repair").size() == 3);
  CHECK(copy.split("train").size() == 6);
  check_same(copy.split("repair"), data.split("repair"));
}

TEST_CASE("a subset has every attribute of the root") {
  TemporaryFolder folder;
  {
    Writer writer = write_good_file(folder / "x.h5");
    writer.texts("source", {"a text longer than twelve letters", ""}, false);
    writer.texts("fixed", {"one", "two"}, true);
    writer.number("version", 2, H5T_STD_I16BE);
  }
  write_subset(Dataset::open(folder / "x.h5"), {}, folder / "y.h5");
  const hdf5::Handle file = hdf5::open_file(folder / "y.h5");
  CHECK(hdf5::read_strings(file, "source") == Names{"a text longer than twelve letters", ""});
  CHECK(hdf5::read_strings(file, "fixed") == Names{"one", "two"});
  CHECK(hdf5::attribute_type(file, "version") == "one int16");
  CHECK(hdf5::read_numbers(file, "version")->values == std::vector<double>{2});
  CHECK(hdf5::link_names(file).empty());
}

// More than one slab of 64 MiB, and images that do not divide it.
TEST_CASE("a subset of many images is copied slab by slab") {
  TemporaryFolder folder;
  const int64_t count = 70, side = 1000;
  at::Tensor images = at::arange(count * side * side).remainder(253).to(at::kByte);
  {
    Writer writer(folder / "x.h5");
    writer.tensor("/repair/images", images.reshape({count, 1, side, side}));
    writer.tensor("/repair/labels", at::arange(count).remainder(2));
    writer.number("classes", 2, H5T_NATIVE_INT64);
    writer.number("divisor", 1, H5T_NATIVE_DOUBLE);
    writer.numbers("mean", {0});
    writer.numbers("std", {1});
  }
  const Dataset data = Dataset::open(folder / "x.h5", {}, 0);
  write_subset(data, {"repair"}, folder / "y.h5");
  check_same(Dataset::open(folder / "y.h5", {}, 0).split("repair"), data.split("repair"));
}

TEST_CASE("a subset that cannot be written says where") {
  TemporaryFolder folder;
  write_good_file(folder / "x.h5");
  const Dataset data = Dataset::open(folder / "x.h5");
  for (const auto& file : {folder / "none/y.h5", folder.path()}) {
    try {
      write_subset(data, {"repair"}, file);
      FAIL("no error");
    } catch (const UserError& error) {
      CHECK(error.problems()[0].file == file.string());
      CHECK(error.problems()[0].expected == "a place that can be written to");
    }
  }
}
