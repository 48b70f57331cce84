#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>
#include <set>
#include <thread>

#include "harness/core/catalog.hpp"
#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"
#include "harness/core/process_name.hpp"
#include "harness/core/random.hpp"
#include "tests/support.hpp"

using namespace harness;

TEST_CASE("a problem is one line with everything that is known") {
  CHECK(to_text(Problem{"a.json", "/runs", "text \"3\"", "a whole number", ""}) ==
        "a.json: /runs: found text \"3\", expected a whole number");
  CHECK(to_text(Problem{"a.json", "", "an unknown key", "one of x", "runs"}) ==
        "a.json: found an unknown key, expected one of x; did you mean runs?");
  CHECK(to_text(Problem{"a.json", "/data", "no file", "", "scripts/demo"}) ==
        "a.json: /data: found no file; to make it: scripts/demo");
  CHECK(to_text(Problem{"m.pt", "", "half precision", "float32", "export it after model.float()"}) ==
        "m.pt: found half precision, expected float32; export it after model.float()");
  CHECK(to_text(Problem{"a\nb", "/c", "x", "", ""}) == "a b: /c: found x");
  const UserError error({{"a", "b", "c", "d", ""}, {"e", "f", "g", "h", ""}});
  CHECK(std::string(error.what()) == "a: b: found c, expected d\ne: f: found g, expected h");
  CHECK(error.problems().size() == 2);
}

TEST_CASE("the nearest name is one of few slips away") {
  const std::vector<std::string> names = {"epsilon", "steps", "sample", "learning_rate", "AR", "IR"};
  CHECK(nearest_name("epsilom", names) == "epsilon");
  CHECK(nearest_name("step", names) == "steps");
  CHECK(nearest_name("smaple", names) == "sample");
  CHECK(nearest_name("LEARNINGRATE", names) == "learning_rate");
  CHECK(nearest_name("eps", names) == "epsilon");
  CHECK(nearest_name("ar", names) == "AR");
  CHECK(nearest_name("banana", names).empty());
  CHECK(nearest_name("XY", names).empty());
  CHECK(nearest_name("anything", {}).empty());
}

TEST_CASE("seeds of different purposes are unrelated and fixed") {
  CHECK(derive_seed(42, "AR/1/negatives") == derive_seed(42, "AR/1/negatives"));
  std::set<uint64_t> seeds;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    for (const char* purpose : {"", "a", "b", "AR/1", "AR/2"}) seeds.insert(derive_seed(seed, purpose));
  }
  CHECK(seeds.size() == 250);
  CHECK(derive_seed(42, "AR/1/negatives") == 0xdf22b263499171bb);
}

TEST_CASE("a random stream is the same everywhere") {
  // the state after seeding is splitmix64's sequence, whose first number for seed 0 is published
  RandomStream zero(0), again(0), other(1);
  std::vector<uint64_t> numbers;
  for (int i = 0; i < 3; ++i) numbers.push_back(zero.bits());
  CHECK(numbers == std::vector<uint64_t>{0x99ec5f36cb75f2b4, 0xbf6e1f784956452a, 0x1a5f849d4933e6e0});
  CHECK(again.bits() == numbers[0]);
  CHECK(other.bits() != numbers[0]);
}

TEST_CASE("uniform numbers fill their range evenly") {
  RandomStream stream(7);
  constexpr int kCount = 200000, kBins = 20;
  std::vector<int> bins(kBins);
  double sum = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = stream.uniform();
    REQUIRE((value >= 0 && value < 1));
    ++bins[static_cast<size_t>(value * kBins)];
    sum += value;
  }
  double chi = 0;
  for (const int count : bins) chi += std::pow(count - kCount / kBins, 2) / (kCount / kBins);
  CHECK(chi < 43.8);  // 19 degrees of freedom, 0.1 %
  CHECK(sum / kCount == Approx(0.5).margin(0.003));
  for (int i = 0; i < 1000; ++i) {
    const double value = stream.uniform(-2, -1);
    REQUIRE((value >= -2 && value < -1));
  }
  const double next = std::nextafter(1.0, 2.0);
  for (int i = 0; i < 100; ++i) REQUIRE(stream.uniform(1, next) == 1);  // `high` itself never comes
}

TEST_CASE("normal numbers have mean 0 and deviation 1") {
  RandomStream stream(11);
  constexpr int kCount = 100000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = stream.normal();
    REQUIRE(std::isfinite(value));
    sum += value;
    squares += value * value;
    fourth += std::pow(value, 4);
  }
  CHECK(sum / kCount == Approx(0).margin(0.012));
  CHECK(squares / kCount == Approx(1).margin(0.02));
  CHECK(fourth / kCount == Approx(3).margin(0.15));
}

TEST_CASE("whole numbers below a bound are without bias") {
  RandomStream stream(3);
  std::vector<int> counts(6);
  for (int i = 0; i < 60000; ++i) ++counts[static_cast<size_t>(stream.below(6))];
  for (const int count : counts) CHECK(std::abs(count - 10000) < 400);
  CHECK(stream.below(1) == 0);
  // with a bound of 3/4 of 2^64's half, plain remainders would favour the lower third visibly
  const int64_t bound = int64_t{3} << 61;
  int low = 0;
  for (int i = 0; i < 30000; ++i) low += stream.below(bound) < bound / 3;
  CHECK(low == Approx(10000).margin(400));
}

TEST_CASE("permutations and samples hold every number once") {
  RandomStream stream(5);
  std::vector<int64_t> numbers = stream.permutation(1000);
  CHECK_FALSE(std::is_sorted(numbers.begin(), numbers.end()));
  std::sort(numbers.begin(), numbers.end());
  for (int64_t i = 0; i < 1000; ++i) REQUIRE(numbers[static_cast<size_t>(i)] == i);
  CHECK(stream.permutation(0).empty());
  CHECK(stream.sample(5, 0).empty());
  std::vector<int> first(4);
  for (int i = 0; i < 20000; ++i) {
    const std::vector<int64_t> two = stream.sample(4, 2);
    REQUIRE(two.size() == 2);
    REQUIRE(two[0] != two[1]);
    ++first[static_cast<size_t>(two[1])];
  }
  for (const int count : first) CHECK(std::abs(count - 5000) < 300);
  CHECK(RandomStream(9).permutation(10) == RandomStream(9).sample(10, 10));
}

TEST_CASE("a counter-based number depends on its three coordinates only") {
  CHECK(counter_uniform(1, 2, 3) == counter_uniform(1, 2, 3));
  std::set<double> seen;
  double sum = 0, product = 0;
  int count = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t image = 0; image < 50; ++image) {
      for (uint64_t element = 0; element < 50; ++element, ++count) {
        const double value = counter_uniform(seed, image, element);
        REQUIRE((value >= 0 && value < 1));
        seen.insert(value);
        sum += value;
        product += (value - 0.5) * (counter_uniform(seed, image + 1, element) - 0.5);
      }
    }
  }
  CHECK(seen.size() == 25000);
  CHECK(sum / count == Approx(0.5).margin(0.006));
  CHECK(product / count == Approx(0).margin(0.002));  // neighbours are unrelated
}

TEST_CASE("files are written whole or not at all") {
  testing::TemporaryFolder folder;
  const auto file = folder / "a.txt";
  write_atomically(file, "one");
  write_atomically(file, std::string(3000000, 'x'));
  CHECK(read_text(file) == std::string(3000000, 'x'));
  write_atomically(file, "");
  CHECK(read_text(file).empty());
  const auto entries = [&] {
    return std::distance(std::filesystem::directory_iterator(folder.path()),
                         std::filesystem::directory_iterator());
  };
  CHECK(entries() == 1);
  {
    AtomicFile unfinished(file);
    CHECK(unfinished.temporary().filename() == file.filename());
    std::ofstream(unfinished.temporary()) << "half";
    CHECK(read_text(file).empty());
    CHECK(entries() == 2);
  }
  CHECK(read_text(file).empty());
  CHECK(entries() == 1);
  AtomicFile finished(file);
  std::ofstream(finished.temporary()) << "whole";
  finished.commit();
  CHECK(read_text(file) == "whole");
  CHECK_THROWS_AS(write_atomically(folder / "no such folder/a.txt", "x"), UserError);
  CHECK_THROWS_AS(write_atomically(folder.path(), "x"), UserError);
  CHECK(entries() == 1 + 1);  // a.txt and the empty folder that `finished` still holds
}

TEST_CASE("half-written files go with their writers") {
  testing::TemporaryFolder folder;
  const auto names = [&] {
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      found.insert(entry.path().filename().string());
    }
    return found;
  };
  const ProcessName self = this_process();
  CHECK(life_of(self) == Life::alive);
  CHECK(life_of({self.place, self.number, self.started + "0"}) == Life::gone);  // its number, at another time
  CHECK(life_of({self.place, 0, self.started}) == Life::gone);
  CHECK(life_of({"another place", self.number, self.started}) == Life::unknown);
  CHECK(life_of({"", self.number, self.started}) == Life::unknown);
  const std::string ours = "-" + std::to_string(self.number) + "-" + self.started + "-";
  const std::string mine = temporary_name(folder / "a.txt").filename().string();
  const std::string gone = ".a.txt." + self.place + "-" + std::to_string(self.number) + "-1-0a0b0c0d.tmp";
  const std::string young = ".a.txt.0123456789abcdef" + ours + "0a0b0c0d.tmp", old = ".b" + young;
  const std::string old_folder = ".c" + young, busy_folder = ".d" + young;
  for (const std::string& name : {mine, gone, young, old, std::string("a.tmp"), std::string(".hidden")}) {
    std::ofstream(folder / name) << "half";
  }
  for (const std::string& name : {old_folder, busy_folder}) {
    std::filesystem::create_directory(folder / name);
    std::ofstream(folder / name / "fixed.pt") << "half";
  }
  const auto make_old = [&](const std::filesystem::path& path) {
    const auto age = std::chrono::duration<double>(kAbandonedSeconds + 5);
    std::filesystem::last_write_time(
        path, std::filesystem::last_write_time(path) -
                  std::chrono::duration_cast<std::filesystem::file_time_type::duration>(age));
  };
  for (const std::string& name : {old, old_folder, old_folder + "/fixed.pt", busy_folder})
    make_old(folder / name);
  remove_half_written(folder.path());
  CHECK(names() == std::set<std::string>{mine, young, busy_folder, "a.tmp", ".hidden"});
}

TEST_CASE("of many that write a file once, one does") {
  testing::TemporaryFolder folder;
  for (int round = 0; round < 20; ++round) {
    const auto file = folder / ("once_" + std::to_string(round));
    std::atomic<int> winners = 0, winner = -1;
    std::vector<std::thread> writers;
    for (int k = 0; k < 6; ++k) {
      writers.emplace_back([&, k] {
        if (!write_once(file, std::to_string(k))) return;
        ++winners;
        winner = k;
      });
    }
    for (std::thread& writer : writers) writer.join();
    CHECK(winners == 1);
    CHECK(read_text(file) == std::to_string(winner));
  }
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()),
                      std::filesystem::directory_iterator()) == 20);
  CHECK_THROWS_AS(write_once(folder / "no such folder/a", "x"), UserError);
}

TEST_CASE("a reader never sees half a file") {
  testing::TemporaryFolder folder;
  const auto file = folder / "shared.txt";
  const std::string first(200000, 'a'), second(300000, 'b');
  write_atomically(file, first);
  std::thread writer([&] {
    for (int i = 0; i < 20; ++i) write_atomically(file, i % 2 == 0 ? second : first);
  });
  int torn = 0;
  for (int i = 0; i < 50; ++i) {
    const std::string seen = read_text(file);
    torn += seen != first && seen != second;
  }
  writer.join();
  CHECK(torn == 0);
}

TEST_CASE("unreadable files are named") {
  testing::TemporaryFolder folder;
  for (const auto& file : {folder / "missing", folder.path()}) {
    try {
      read_text(file);
      FAIL("read " << file);
    } catch (const UserError& error) {
      CHECK(error.problems()[0].file == file.string());
      CHECK_FALSE(error.problems()[0].found.empty());
    }
  }
}

TEST_CASE("digests are XXH3's and follow the content") {
  testing::TemporaryFolder folder;
  CHECK(digest_of("harness") == "2cc8992e8a4f6b6aef596e5fc7c39f41");  // by the reference package
  CHECK(digest_of("") == "99aa06d3014798d86001c324468d497f");         // XXH3_128bits of nothing, as published
  const auto file = folder / "big";
  const std::string content(2500000, 'q');
  write_atomically(file, content);
  const std::string before = digest_of_file(file);
  CHECK(before == digest_of(content));
  CHECK(digest_of_file(file) == before);
  write_atomically(file, std::string(2500000, 'r'));  // same size, another file
  CHECK(digest_of_file(file) == digest_of(std::string(2500000, 'r')));
  CHECK_THROWS_AS(digest_of_file(folder / "missing"), UserError);
}

TEST_CASE("numbers are written short and read back the same") {
  CHECK(format_number(0.1) == "0.1");
  CHECK(format_number(97.9) == "97.9");
  CHECK(format_number(100000) == "100000");
  CHECK(format_number(-0.0) == "0");
  CHECK(format_number(1e22) == "1e+22");
  CHECK(format_number(0.00001) == "0.00001");
  CHECK(format_number(5e-324) == "5e-324");
  CHECK(format_number(std::nan("")).empty());
  RandomStream stream(1);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::ldexp(stream.uniform(-1, 1), static_cast<int>(stream.below(300)) - 150);
    REQUIRE(std::stod(format_number(value)) == value);
  }
}

TEST_CASE("CSV fields are quoted where they must be") {
  CHECK(csv_field("plain text") == "plain text");
  CHECK(csv_field("a,b") == "\"a,b\"");
  CHECK(csv_field("say \"hi\"") == "\"say \"\"hi\"\"\"");
  CHECK(csv_field("two\nlines") == "\"two\nlines\"");
  CHECK(csv_field("").empty());
}

TEST_CASE("JSON is read strictly, with places") {
  testing::TemporaryFolder folder;
  const auto place_of = [&](const std::string& text) {
    write_atomically(folder / "x.json", text);
    try {
      read_json(folder / "x.json");
    } catch (const UserError& error) {
      return error.problems()[0].place;
    }
    return std::string("none");
  };
  CHECK(place_of(R"({"a": [1, {"b": null}]})") == "none");
  CHECK(place_of("{\"a\": 1,\n \"b\" 2}") == "line 2, column 6");
  CHECK(place_of("{\"a\": 1,}") == "line 1, column 9");
  CHECK(place_of("") == "line 1, column 1");
  CHECK(place_of("[1, 2") == "line 1, column 6");
  CHECK(place_of("{} x") == "line 1, column 4");
  CHECK(place_of("\"\xff\"") == "line 1, column 2");
  CHECK(place_of("[1e999]") == "line 1, column 6");
  CHECK(place_of("[NaN]") == "line 1, column 2");
  CHECK(place_of(R"({"a": 1, "a": 2})") == "/a");
  CHECK(place_of(R"({"x/y": [0, {"b": {}, "b": {}}]})") == "/x~1y/1/b");
  CHECK(place_of(std::string(100000, '[')).substr(0, 4) == "/0/0");
  std::vector<Problem> problems;
  CHECK(parse_json(R"({"a": 1, "b": {}, "a": 2})", "f", &problems)->at("a") == 2);
  CHECK(problems.size() == 1);
}

TEST_CASE("values in words") {
  CHECK(describe(nullptr) == "null");
  CHECK(describe("a\"b\n") == R"(text "a\"b\n")");
  CHECK(describe({1, 2}) == "a list of 2");
  CHECK(describe(0.15) == "0.15");
  CHECK(describe(std::string(500, 'x')).size() < 80);
  CHECK(pointer_to("/a", "b/c~d") == "/a/b~1c~0d");
}

TEST_CASE("parameters give what was checked") {
  const Hyperparameters parameters(
      {{"on", true}, {"count", 3}, {"rate", 0.5}, {"mode", "fast"}, {"none", nullptr}});
  CHECK(parameters.boolean("on"));
  CHECK(parameters.integer("count") == 3);
  CHECK(parameters.number("count") == 3.0);
  CHECK(parameters.number("rate") == 0.5);
  CHECK(parameters.text("mode") == "fast");
  CHECK(parameters.is_null("none"));
  CHECK_FALSE(parameters.is_null("on"));
  const Catalog catalog = {ApproachInfo{.key = "AR", .name = "Arachne"}};
  CHECK(find(catalog, "AR")->name == "Arachne");
  CHECK(find(catalog, "ar") == nullptr);
}
