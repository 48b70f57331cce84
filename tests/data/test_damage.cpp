#include <unistd.h>

#include <csignal>
#include <stdexcept>

#include "harness/core/error.hpp"
#include "harness/core/trial.hpp"
#include "harness/data/dataset.hpp"
#include "harness/data/split_names.hpp"
#include "tests/support.hpp"

// Files that end the HDF5 library, or keep it busy for ever.
using namespace harness;

TEST_CASE("what would end this process ends a copy of it") {
  CHECK(ended_by([] {}, 10).empty());
  CHECK(ended_by([] { throw std::runtime_error("no"); }, 10).empty());
  CHECK(ended_by([] { ::raise(SIGSEGV); }, 10) == "SIGSEGV");
  CHECK(ended_by([] { std::abort(); }, 10) == "SIGABRT");
  CHECK(ended_by([] { ::_exit(3); }, 10) == "exit code 3");
  volatile bool never = false;
  CHECK(ended_by(
            [&] {
              while (!never) {
              }
            },
            1) == "1 s of computing");
  for (const int request : {SIGINT, SIGTERM, SIGKILL}) {  // nothing that the file has done
    CHECK(ended_by([&] { ::raise(request); }, 10).empty());
  }
  int here = 0;
  CHECK(ended_by([&] { here = 1; }, 10).empty());
  CHECK(here == 0);
}

TEST_CASE("a data file that ends the HDF5 library is refused") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/seeds/data")) {
    ++files;
    INFO(entry.path().string());
    CHECK_THROWS_AS(Dataset::open(entry.path()), UserError);
    CHECK_NOTHROW(splits_in(entry.path()));
  }
  CHECK(files >= 4);
}
