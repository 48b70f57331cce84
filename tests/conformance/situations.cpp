#include "tests/conformance/situations.hpp"

#include <map>

#include "tests/approaches/entries.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/headed.hpp"
#include "tests/approaches/heads.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

const char* const kSituationProgram = R"(
import h5py, numpy as np, torch
from torch import nn

folder, source = '@FOLDER', '@SOURCE'

class Forked(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(128, 4)
        self.other = nn.Linear(128, 4)
    def forward(self, x):
        x = x.flatten(1)
        if x.sum() > 0:
            return self.one(x)
        return self.other(x)

torch.manual_seed(3)
torch.jit.script(Forked().eval()).save(folder + '/black_box.pt')

net = torch.jit.load(folder + '/tiny.pt').eval()
with h5py.File(source, 'r') as given:
    with torch.no_grad():
        answers = net(torch.tensor(given['repair/images'][:])).argmax(1).numpy()
    commonest = np.bincount(answers).argmax()
    few = answers.copy()
    few[np.flatnonzero(answers == commonest)[:12]] = (commonest + 1) % 4
    labels = {'poisoned': None, 'no_test': None, 'no_repair': None, 'no_faults': answers,
              'no_correct': (answers + 1) % 4, 'one_kind': few}
    for name, changed in labels.items():
        with h5py.File(folder + '/' + name + '.h5', 'w') as made:
            for key, value in given.attrs.items():
                made.attrs[key] = value
            for split in given:
                if name == 'no_' + split:
                    continue
                given.copy(split, made)
            if changed is not None:
                made['repair/labels'][:] = changed.astype('int64')
            if name == 'poisoned':
                made['test/images'][:] = 1e6
                made['test/labels'][:] = 0
)";

struct Files {
  TemporaryFolder folder;
  std::map<std::string, Dataset> data;
  std::optional<Network> black_box;

  Files() {
    tiny_network().save(folder / "tiny.pt");
    std::string program = kSituationProgram;
    program.replace(program.find("@FOLDER"), 7, folder.path().string());
    program.replace(program.find("@SOURCE"), 7, tiny_data().file().string());
    run_python(program);
    for (const char* name : {"poisoned", "no_test", "no_repair", "no_faults", "no_correct", "one_kind"})
      data.emplace(name, Dataset::open(folder / (std::string(name) + ".h5")));
    black_box = Network::load(folder / "black_box.pt", tiny_data().split("repair").inputs(0, 3));
  }
};

const Files& files() {
  static const Files made;
  return made;
}

}  // namespace

const Dataset& data_with(const std::string& name) {
  return files().data.at(name);
}

const std::vector<Situation>& situations() {
  static const std::vector<Situation> made = [] {
    std::vector<Situation> all = {{"black_box", &*files().black_box, &tiny_data()},
                                  {"no_history", &tiny_network(), &tiny_data(), 0},
                                  {"other_history", &tiny_network(), &tiny_data(), 2, true},
                                  {"one_dense", &head_network("one_dense"), &tiny_data()}};
    for (const char* name : {"no_repair", "no_faults", "no_correct", "one_kind"})
      all.push_back({name, &tiny_network(), &data_with(name)});
    for (const char* name : {"convolved", "pooled", "sigmoid", "skipping"})
      all.push_back({name, &headless_network(name), &tiny_data()});
    return all;
  }();
  return made;
}

Case moved_to(const Case& one, const Situation& situation) {
  Case moved = one;
  moved.text += " " + situation.name;
  moved.network = situation.network;
  moved.setup = [one, situation] {
    FixContext::Setup setup = one.setup();
    setup.data = situation.data;
    setup.history.clear();
    if (situation.history > 0 && situation.network->importable())
      setup.history = history_of(*situation.network);
    if (situation.is_other_history) std::swap(setup.history.at(0), setup.history.at(1));
    return setup;
  };
  return moved;
}

}  // namespace harness::testing
