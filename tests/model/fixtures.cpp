#include "tests/model/fixtures.hpp"

#include "tests/support.hpp"

namespace harness::testing {

std::filesystem::path fixture(const std::string& name) {
  static const TemporaryFolder folder;
  static const bool made = [] {
    run_python("import runpy, sys\nsys.argv = ['fixtures.py', '" + folder.path().string() +
               "']\nrunpy.run_path('tests/model/fixtures.py', run_name='__main__')\n");
    return true;
  }();
  (void)made;
  return folder / (name + ".pt");
}

at::Tensor images(int64_t count) {
  at::manual_seed(7);
  return at::randn({count, 3, 8, 8});
}

Network load_fixture(const std::string& name) {
  return Network::load(fixture(name), images(5));
}

double relative_difference(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item<double>();
}

}  // namespace harness::testing
