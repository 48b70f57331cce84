#include <ATen/record_function.h>

#include <map>

#include "harness/cell/fixing.hpp"
#include "tests/run/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

std::map<std::string, int> seen;  // operators that this thread asked for

std::unique_ptr<at::ObserverContext> see(const at::RecordFunction& call) {
  ++seen[call.name()];
  return nullptr;
}

// One fix that does nothing itself, with what ATen was asked for meanwhile.
cell::FixOutcome do_nothing(const std::filesystem::path& model) {
  SubjectConfig subject_config;
  subject_config.name = "S";
  subject_config.model = model;
  subject_config.data = testing::data_file();
  const Config config;
  const Subject subject(subject_config, config, at::kCPU);
  const cell::FixJob job = cell::fix_job(*find_approach("NONE"), subject, {}, {}, 0);
  seen.clear();
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(see).scopes({at::RecordScope::FUNCTION}));
  cell::FixOutcome outcome = cell::run_fix(job);
  at::removeCallback(handle);
  return outcome;
}

TEST_CASE("both directions are warm before a fix is timed, and a model without a derivative is no trouble") {
  REQUIRE(do_nothing(testing::model_file()).status == Status::ok);
  REQUIRE(seen["aten::addmm"] > 0);
  REQUIRE(seen["aten::threshold_backward"] > 0);
  const testing::TemporaryFolder folder;
  const std::filesystem::path file = folder / "stubborn.pt";
  testing::run_python(R"(
import torch
class Stubborn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(16, 3)
    def forward(self, x):
        if bool(x.sum() > -1e30):  # a black box, as its flow depends on values
            x = torch.nextafter(x, x + 1)
        return self.fc(x.flatten(1))
torch.jit.script(Stubborn().eval()).save(')" +
                      file.string() + "')\n");
  const cell::FixOutcome outcome = do_nothing(file);
  INFO(outcome.reason);
  REQUIRE(outcome.status == Status::ok);
  REQUIRE(seen["aten::nextafter"] > 1);
}

}  // namespace
}  // namespace harness
