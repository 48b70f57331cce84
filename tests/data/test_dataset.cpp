#include <ATen/ATen.h>

#include <cmath>
#include <functional>
#include <limits>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/random.hpp"
#include "harness/data/dataset.hpp"
#include "harness/data/reader.hpp"
#include "harness/data/split_names.hpp"
#include "tests/data/writer.hpp"
#include "tests/support.hpp"

using namespace harness;
using testing::FileOptions;
using testing::TemporaryFolder;
using testing::write_good_file;
using testing::Writer;

namespace {

constexpr int64_t kSlabs = 0;  // a resident limit that makes every split be read by slabs

std::vector<Problem> problems_of(const std::filesystem::path& file, int64_t resident_limit = kResidentLimit) {
  try {
    Dataset::open(file, {}, resident_limit);
  } catch (const UserError& error) {
    for (const Problem& problem : error.problems()) {
      CHECK(problem.file == file.string());
      CHECK_FALSE(problem.found.empty());
      CHECK_FALSE(problem.expected.empty());
    }
    return error.problems();
  }
  return {};
}

// "PLACE: FOUND" of the only problem of a good file changed by `change`.
std::string refusal(const std::function<void(Writer&)>& change, const FileOptions& options = {}) {
  TemporaryFolder folder;
  {
    Writer writer = write_good_file(folder / "x.h5", options);
    change(writer);
  }
  const std::vector<Problem> problems = problems_of(folder / "x.h5");
  if (problems.size() != 1) return std::to_string(problems.size()) + " problems";
  return problems[0].place + ": " + problems[0].found;
}

// What inputs() has to give for the images [begin, end) of a split that begins at value `offset`.
at::Tensor expected_inputs(int64_t offset, int64_t begin, int64_t end) {
  at::Tensor values = at::arange(offset + begin * 24, offset + end * 24).remainder(251).to(at::kDouble);
  values = values.reshape({end - begin, 2, 3, 4}) / 255;
  const at::Tensor mean = at::tensor({0.25, 0.5}, at::kDouble).reshape({1, 2, 1, 1});
  const at::Tensor std = at::tensor({0.5, 0.2}, at::kDouble).reshape({1, 2, 1, 1});
  return ((values - mean) / std).to(at::kFloat);
}

}  // namespace

TEST_CASE("a good file is read, resident or by slabs, bytes or floats") {
  TemporaryFolder folder;
  for (const bool floats : {false, true}) {
    for (const bool compressed : {false, true}) {
      for (const int64_t limit : {kResidentLimit, kSlabs}) {
        INFO("floats " << floats << " compressed " << compressed << " resident limit " << limit);
        write_good_file(folder / "x.h5", {floats, compressed});
        const Dataset data = Dataset::open(folder / "x.h5", {}, limit);
        CHECK(data.info().classes == 3);
        CHECK(data.info().shape == std::vector<int64_t>{2, 3, 4});
        CHECK(data.info().stored_type == (floats ? "float32" : "uint8"));
        CHECK(data.info().group_names == std::vector<std::string>{"light", "dark"});
        CHECK(data.split_names() == std::vector<std::string>{"train", "repair", "test"});
        CHECK_FALSE(data.has("validation"));
        const Split& test = data.split("test");
        REQUIRE(test.size() == 4);
        CHECK(at::equal(test.labels(), at::tensor({0, 1, 2, 0}, at::kLong)));
        CHECK(at::equal(test.groups(), at::tensor({0, 1, 0, 1}, at::kByte)));
        CHECK_FALSE(data.split("train").groups().defined());
        const at::Tensor all = test.inputs(0, 4);
        CHECK(all.scalar_type() == at::kFloat);
        CHECK(at::equal(all, expected_inputs(264, 0, 4)));
        CHECK(at::equal(data.split("repair").inputs(2, 5), expected_inputs(144, 2, 5)));
        CHECK(test.inputs(1, 1).sizes() == at::IntArrayRef({0, 2, 3, 4}));
      }
    }
  }
}

TEST_CASE("images are gathered by number, in any order, with repeats") {
  TemporaryFolder folder;
  write_good_file(folder / "x.h5", {false, true});
  RandomStream stream(3);
  for (const int64_t limit : {kResidentLimit, kSlabs}) {
    const Dataset data = Dataset::open(folder / "x.h5", {}, limit);
    const Split& train = data.split("train");
    const at::Tensor all = train.inputs(0, 6);
    CHECK(train.inputs(at::empty({0}, at::kLong)).size(0) == 0);
    for (int round = 0; round < 50; ++round) {
      std::vector<int64_t> numbers(static_cast<size_t>(1 + stream.below(9)));
      for (int64_t& number : numbers) number = stream.below(6);
      const at::Tensor indices = at::tensor(numbers, at::kLong);
      REQUIRE(at::equal(train.inputs(indices), all.index_select(0, indices)));
    }
    const at::Tensor strided = at::tensor({5, 9, 0, 9, 2, 9}, at::kLong).slice(0, 0, 6, 2);
    CHECK(at::equal(train.inputs(strided), all.index_select(0, strided)));
  }
}

TEST_CASE("a reader gives the batches of a split, read ahead or resident") {
  TemporaryFolder folder;
  for (const bool floats : {false, true}) {
    write_good_file(folder / "x.h5", {floats, true});
    for (const int64_t limit : {kResidentLimit, kSlabs}) {
      const Dataset data = Dataset::open(folder / "x.h5", {}, limit);
      const Split& train = data.split("train");
      CHECK(train.resident() == (limit == kResidentLimit));
      for (const auto& [batch, count] : std::vector<std::pair<int64_t, int64_t>>{
               {1, 6}, {2, 6}, {4, 6}, {6, 6}, {9, 100}, {4, 5}, {2, 1}, {3, 0}}) {
        INFO("batch " << batch << " of " << count << ", resident " << train.resident());
        BatchReader reader(train, batch, count);
        std::vector<at::Tensor> batches;
        while (auto next = reader.next()) {
          CHECK(next->size(0) <= batch);
          batches.push_back(*next);
        }
        const int64_t wanted = std::min<int64_t>(count, 6);
        CHECK(batches.size() == static_cast<size_t>((wanted + batch - 1) / batch));
        if (wanted > 0) CHECK(at::equal(at::cat(batches), train.inputs(0, wanted)));
        CHECK_FALSE(reader.next());
      }
      BatchReader abandoned(train, 2, 6);
      abandoned.next();
    }
  }
}

TEST_CASE("what cannot be read ahead is an error of the batch it belongs to") {
  TemporaryFolder folder;
  write_good_file(folder / "x.h5", {false, true});
  const Dataset data = Dataset::open(folder / "x.h5", {}, kSlabs);
  std::filesystem::resize_file(folder / "x.h5", 1000);  // the file is cut while it is open
  BatchReader reader(data.split("train"), 2, 6);
  CHECK_THROWS_AS(
      [&] {
        while (reader.next()) {
        }
      }(),
      UserError);
}

TEST_CASE("a limit keeps the first images of a split") {
  TemporaryFolder folder;
  write_good_file(folder / "x.h5");
  for (const int64_t resident : {kResidentLimit, kSlabs}) {
    const Dataset data =
        Dataset::open(folder / "x.h5", {{"test", 3}, {"train", 100}, {"validation", 2}}, resident);
    CHECK(data.split("test").size() == 3);
    CHECK(data.split("test").labels().numel() == 3);
    CHECK(data.split("test").groups().numel() == 3);
    CHECK(at::equal(data.split("test").inputs(0, 3), expected_inputs(264, 0, 3)));
    CHECK(data.split("train").size() == 6);
  }
  for (const auto& limit : {std::map<std::string, int64_t>{{"tset", 3}}, {{"test", 0}}, {{"test", -1}}}) {
    CHECK_THROWS_AS(Dataset::open(folder / "x.h5", limit), UserError);
  }
  try {
    Dataset::open(folder / "x.h5", {{"tset", 3}});
  } catch (const UserError& error) {
    CHECK(error.problems()[0].place == "--limit");
    CHECK(error.problems()[0].suggestion == "test");
  }
}

TEST_CASE("the splits of a file are known without reading it, and none of what is no file") {
  const TemporaryFolder folder;
  write_good_file(folder / "x.h5");
  CHECK(splits_in(folder / "x.h5") == std::vector<std::string>{"train", "repair", "test"});
  write_atomically(folder / "text.h5", "x");
  CHECK(splits_in(folder / "text.h5").empty());
  CHECK(splits_in(folder / "absent.h5").empty());
}

TEST_CASE("other right ways to write the same") {
  TemporaryFolder folder;
  {
    Writer writer = write_good_file(folder / "x.h5");
    writer.remove("/test/labels");
    writer.tensor("/test/labels", at::arange(4).remainder(3), H5T_STD_U8BE);
    writer.remove_attribute("group_names");
    writer.texts("group_names", {"one", "exactly12chr"}, true);
    writer.remove_attribute("divisor");
    writer.number("divisor", 255, H5T_STD_I32BE);
    writer.group("/notes");
    writer.tensor("/index", at::arange(3));
  }
  const Dataset data = Dataset::open(folder / "x.h5");
  CHECK(data.info().group_names == std::vector<std::string>{"one", "exactly12chr"});
  CHECK(at::equal(data.split("test").labels(), at::tensor({0, 1, 2, 0}, at::kLong)));
  CHECK(data.info().divisor == 255);
}

TEST_CASE("one channel may have scalar mean and std") {
  TemporaryFolder folder;
  {
    Writer writer(folder / "x.h5");
    writer.tensor("/test/images", at::full({2, 1, 2, 2}, 51, at::kByte));
    writer.tensor("/test/labels", at::arange(2));
    writer.number("classes", 2, H5T_NATIVE_UINT8);
    writer.number("divisor", 255, H5T_NATIVE_INT64);
    writer.number("mean", 0, H5T_NATIVE_DOUBLE);
    writer.number("std", 1, H5T_NATIVE_DOUBLE);
  }
  const Dataset data = Dataset::open(folder / "x.h5");
  CHECK(at::equal(data.split("test").inputs(0, 2), at::full({2, 1, 2, 2}, 0.2F)));
  CHECK(data.info().group_names.empty());
}

TEST_CASE("files that are no data files") {
  TemporaryFolder folder;
  CHECK(problems_of(folder / "missing.h5").at(0).found.find("no file") == 0);
  CHECK(problems_of(folder.path()).at(0).found.find("a folder") == 0);
  write_atomically(folder / "text.h5", "not HDF5 at all");
  CHECK(problems_of(folder / "text.h5").at(0).found == "a text file");
  write_atomically(folder / "empty.h5", "");
  CHECK(problems_of(folder / "empty.h5").size() == 1);
}

TEST_CASE("a truncated file is refused wherever it ends") {
  TemporaryFolder folder;
  write_good_file(folder / "whole.h5", {false, true});
  const std::string whole = read_text(folder / "whole.h5");
  REQUIRE(whole.size() > 2000);
  for (size_t length = 1; length < whole.size(); length += whole.size() / 40) {
    write_atomically(folder / "cut.h5", std::string_view(whole).substr(0, length));
    INFO(length << " of " << whole.size());
    CHECK(problems_of(folder / "cut.h5").size() == 1);
  }
}

TEST_CASE("damaged compressed pixels are refused when they are read") {
  TemporaryFolder folder;
  write_good_file(folder / "x.h5", {false, true});
  std::string content = read_text(folder / "x.h5");
  // the zlib streams begin with 78 5e at level 4
  size_t damaged = 0;
  for (size_t i = content.find("\x78\x5e"); i != std::string::npos; i = content.find("\x78\x5e", i + 1)) {
    content.replace(i + 4, 4, "\xff\xff\xff\xff");
    ++damaged;
  }
  REQUIRE(damaged >= 8);
  write_atomically(folder / "x.h5", content);
  const auto problems = problems_of(folder / "x.h5");
  REQUIRE(problems.size() == 3);
  CHECK(problems[0].place == "/train/images");
  const Dataset data = Dataset::open(folder / "x.h5", {}, kSlabs);
  CHECK_THROWS_AS(data.split("test").inputs(0, 2), UserError);
}

TEST_CASE("wrong attributes are refused with their name") {
  const auto attribute = [](const char* name, auto write) {
    return refusal([&](Writer& writer) {
      writer.remove_attribute(name);
      write(writer);
    });
  };
  for (const char* name : {"classes", "divisor", "mean", "std"}) {
    CHECK(attribute(name, [](Writer&) {}) == std::string("/@") + name + ": no such attribute");
  }
  CHECK(attribute("classes", [](Writer& w) { w.number("classes", 3, H5T_NATIVE_DOUBLE); }) ==
        "/@classes: one float64");
  CHECK(attribute("classes", [](Writer& w) { w.number("classes", 1, H5T_NATIVE_INT64); }) == "/@classes: 1");
  CHECK(attribute("classes", [](Writer& w) {
          w.texts("classes", {"a", "b"}, false);
        }) == "/@classes: a list of 2 text");
  CHECK(attribute("divisor", [](Writer& w) { w.number("divisor", 0, H5T_NATIVE_DOUBLE); }) == "/@divisor: 0");
  CHECK(attribute("divisor", [](Writer& w) { w.number("divisor", NAN, H5T_NATIVE_DOUBLE); }) ==
        "/@divisor: NaN");
  CHECK(attribute("divisor", [](Writer& w) { w.numbers("divisor", {1, 2}); }) == "/@divisor: 2 values");
  CHECK(attribute("mean", [](Writer& w) { w.numbers("mean", {1, 2, 3}); }) == "/@mean: 3 numbers");
  CHECK(attribute("mean", [](Writer& w) { w.numbers("mean", {1, NAN}); }) == "/@mean: NaN for channel 1");
  CHECK(attribute("std", [](Writer& w) { w.numbers("std", {0.5, 0}); }) == "/@std: 0 for channel 1");
  CHECK(attribute("std", [](Writer& w) { w.numbers("std", {-1, 1}); }) == "/@std: -1 for channel 0");
  CHECK(attribute("std", [](Writer& w) { w.numbers("std", {1e-300, 1}); }) == "/@std: 1e-300 for channel 0");
  CHECK(attribute("group_names", [](Writer& w) { w.texts("group_names", {"a"}, false); }) ==
        "/@group_names: a list of 1 text");
  CHECK(attribute("group_names", [](Writer& w) {
          w.texts("group_names", {"a", "a"}, true);
        }) == "/@group_names: a list of 2 text");
  CHECK(attribute("group_names", [](Writer& w) {
          w.numbers("group_names", {0, 1});
        }) == "/@group_names: a list of 2 float64");
}

TEST_CASE("whatever number an attribute is, inputs are finite or it is named") {
  const std::vector<double> values = {0,      -1,    NAN,  INFINITY, -INFINITY, 1e-320,
                                      1e-200, 1e-40, 1e29, 1e31,     1e300,     -1e300};
  for (const bool floats : {false, true}) {
    for (const std::string name : {"classes", "divisor", "mean", "std"}) {
      const auto written = [&](auto write) {
        const TemporaryFolder folder;
        {
          Writer writer = write_good_file(folder / "x.h5", {floats, false});
          writer.remove_attribute(name);
          write(writer);
        }
        const std::vector<Problem> problems = problems_of(folder / "x.h5");
        for (const Problem& problem : problems) CHECK(problem.place == "/@" + name);
        if (problems.empty()) {
          const Dataset data = Dataset::open(folder / "x.h5");
          CHECK(data.split("test").inputs(0, 4).isfinite().all().item<bool>());
        }
        return !problems.empty();
      };
      const bool per_channel = name == "mean" || name == "std";
      for (const double value : values) {
        INFO(name << " " << value << ", floats " << floats);
        const bool refused = written([&](Writer& w) {
          if (per_channel) {
            w.numbers(name, {0.5, value});
          } else {
            w.number(name, value, H5T_NATIVE_DOUBLE);
          }
        });
        const bool harmless = std::abs(value) < 1e30 && (name == "mean" || value >= 1e-30);
        CHECK(refused == (name == "classes" || !harmless));
      }
      INFO(name << ", floats " << floats);
      CHECK(written([](Writer&) {}));
      CHECK(written([&](Writer& w) { w.numbers(name, {1, 2, 3}); }));
      CHECK(written([&](Writer& w) { w.texts(name, {"1", "2"}, true); }));
      CHECK(written([&](Writer& w) { w.numbers(name, {}); }));
    }
  }
}

TEST_CASE("a file of another layout leads to the command that reads it") {
  const TemporaryFolder folder;
  const auto suggestion = [&](const std::function<void(Writer&)>& change) {
    {
      Writer writer = write_good_file(folder / "x.h5");
      change(writer);
    }
    const std::vector<Problem> problems = problems_of(folder / "x.h5");
    return problems.empty() ? "no problem" : problems[0].suggestion;
  };
  const auto without_attributes = [](Writer& w) {
    for (const char* name : {"classes", "divisor", "mean", "std"}) w.remove_attribute(name);
  };
  const std::vector<std::function<void(Writer&)>> foreign = {
      without_attributes, [](Writer& w) { w.remove_attribute("mean"); },
      [](Writer& w) {
        for (const char* name : {"/train", "/repair", "/test"}) w.remove(name);
      },
      [](Writer& w) {  // three channels last, and as many means
        for (const char* name : {"/train", "/repair"}) w.remove(name);
        w.remove("/test/images");
        w.tensor("/test/images", at::zeros({4, 8, 8, 2}, at::kByte));
      },
      [](Writer& w) {
        w.remove("/test/labels");
        w.tensor("/test/labels", at::zeros({4, 3}, at::kLong));
      }};
  for (const auto& change : foreign) {
    CHECK(suggestion(change).starts_with("scripts/prepare h5 --source " + (folder / "x.h5").string()));
  }
  {
    Writer writer = write_good_file(folder / "x.h5");
    without_attributes(writer);
    writer.remove("/test/labels");
  }
  CHECK(problems_of(folder / "x.h5").size() == 1);  // the way out, and nothing beside it
}

TEST_CASE("wrong images are refused with their path") {
  const auto images = [](const at::Tensor& tensor, hid_t stored = -1) {
    return refusal([&](Writer& writer) {
      writer.remove("/test/images");
      writer.tensor("/test/images", tensor, stored);
    });
  };
  CHECK(refusal([](Writer& w) { w.remove("/test/images"); }) == "/test/images: nothing");
  CHECK(refusal([](Writer& w) {
          w.remove("/test/images");
          w.group("/test/images");
        }) == "/test/images: a group");
  CHECK(images(at::zeros({4, 24}, at::kByte)) == "/test/images: 4x24 (rank 2)");
  CHECK(images(at::zeros({}, at::kByte)) == "/test/images: a single value (rank 0)");
  CHECK(images(at::zeros({4, 2, 3, 4}, at::kDouble)) == "/test/images: float64");
  CHECK(images(at::zeros({4, 2, 3, 4}, at::kLong)) == "/test/images: int64");
  CHECK(images(at::zeros({4, 2, 3, 4}, at::kFloat)) ==
        "/test/images: float32");  // the other splits are uint8
  CHECK(images(at::zeros({4, 2, 4, 4}, at::kByte)) == "/test/images: images of 2x4x4");
  CHECK(images(at::zeros({0, 2, 3, 4}, at::kByte)) == "/test/images: 0x2x3x4");
  CHECK(images(at::zeros({4, 2, 0, 4}, at::kByte)) == "/test/images: 4x2x0x4");
  CHECK(images(at::zeros({3, 2, 3, 4}, at::kByte)) == "2 problems");  // labels and group have 4
}

TEST_CASE("pixels that are no numbers are refused with their position") {
  for (const int64_t limit : {kResidentLimit, kSlabs}) {
    for (const float value : {NAN, -INFINITY}) {
      TemporaryFolder folder;
      {
        Writer writer = write_good_file(folder / "x.h5", {true, false});
        at::Tensor pixels = at::zeros({5, 2, 3, 4});
        pixels[3][1][2][0] = value;
        pixels[4][0][0][0] = value;
        writer.remove("/repair/images");
        writer.tensor("/repair/images", pixels);
      }
      const auto problems = problems_of(folder / "x.h5", limit);
      REQUIRE(problems.size() == 1);
      CHECK(problems[0].place == "/repair/images");
      CHECK(problems[0].found == std::string(std::isnan(value) ? "NaN" : "an infinite value") +
                                     " in image 3, channel 1, row 2, column 0");
    }
  }
}

TEST_CASE("wrong labels and groups are refused with their path") {
  const auto column = [](const char* path, const at::Tensor& tensor, hid_t stored = -1) {
    return refusal([&](Writer& writer) {
      writer.remove(path);
      writer.tensor(path, tensor, stored);
    });
  };
  CHECK(refusal([](Writer& w) { w.remove("/train/labels"); }) == "/train/labels: nothing");
  CHECK(column("/test/labels", at::zeros({4, 1}, at::kLong)) == "/test/labels: 4x1 (rank 2)");
  CHECK(column("/test/labels", at::zeros({5}, at::kLong)) == "/test/labels: 5 values");
  CHECK(column("/test/labels", at::zeros({4}, at::kFloat)) == "/test/labels: float32");
  CHECK(column("/test/labels", at::tensor({0, 1, 3, 9}, at::kLong)) == "/test/labels: 3 for image 2");
  CHECK(column("/test/labels", at::tensor({0, -1, 0, 0}, at::kLong)) == "/test/labels: -1 for image 1");
  CHECK(column("/test/group", at::tensor({0, 1, 2, 0}, at::kByte)) == "/test/group: 2 for image 2");
  CHECK(column("/test/group", at::zeros({4}, at::kLong)) == "/test/group: int64");
  CHECK(column("/test/group", at::zeros({3}, at::kByte)) == "/test/group: 3 values");
}

TEST_CASE("wrong splits are refused") {
  CHECK(refusal([](Writer& w) {
          for (const char* name : {"/train", "/repair", "/test"}) w.remove(name);
        }) == "/: no split");
  CHECK(refusal([](Writer& w) {
          w.remove("/test");
          w.tensor("/test", at::zeros({3}));
        }) == "/test: a data set");
  CHECK(refusal([](Writer& w) {
          w.remove("/test");
          w.tensor("/tests/images", at::zeros({1, 2, 3, 4}, at::kByte));
        }) == "/tests: a group of images with an unknown name");
}

TEST_CASE("all problems of a file come at once") {
  TemporaryFolder folder;
  {
    Writer writer = write_good_file(folder / "x.h5");
    writer.remove_attribute("divisor");
    writer.remove("/test/labels");
    writer.remove("/repair/group");
    writer.tensor("/repair/group", at::full({5}, 7, at::kByte));
  }
  std::vector<std::string> places;
  for (const Problem& problem : problems_of(folder / "x.h5")) places.push_back(problem.place);
  CHECK(places == std::vector<std::string>{"/@divisor", "/repair/group", "/test/labels"});
}

TEST_CASE("inputs are those of NumPy, rounded once") {
  TemporaryFolder folder;
  const at::Tensor bytes = at::arange(256).to(at::kByte).reshape({1, 1, 16, 16});
  {
    Writer writer(folder / "x.h5");
    writer.tensor("/test/images", bytes);
    writer.tensor("/test/labels", at::zeros({1}, at::kLong));
    writer.number("classes", 2, H5T_NATIVE_INT64);
    writer.number("divisor", 255, H5T_NATIVE_DOUBLE);
    writer.numbers("mean", {0.1307});
    writer.numbers("std", {0.3081});
  }
  const at::Tensor inputs = Dataset::open(folder / "x.h5").split("test").inputs(0, 1);
  for (int64_t i = 0; i < 256; ++i) {
    const auto wanted = static_cast<float>((static_cast<double>(i) / 255.0 - 0.1307) / 0.3081);
    REQUIRE(inputs.flatten()[i].item<float>() == wanted);
  }
}
