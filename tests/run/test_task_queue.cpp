#include <thread>

#include "harness/pool/task_queue.hpp"
#include "tests/support.hpp"

using namespace harness;
using harness::testing::TemporaryFolder;

namespace {

// Two slots, and a plan of three subjects with two cells each.
struct Setting {
  TemporaryFolder folder;
  ResultsTree tree{folder.path()};
  Config config;
  std::vector<plan::PlanEntry> plan;
  std::vector<plan::Task> tasks;
  std::vector<std::unique_ptr<pool::Slot>> slots;

  Setting() {
    for (const char* name : {"A", "B", "C"}) {
      SubjectConfig subject;
      subject.name = name;
      config.subjects.push_back(subject);
    }
    for (const SubjectConfig& subject : config.subjects) {
      for (int64_t run = 1; run <= 2; ++run) {
        plan::PlanEntry entry;
        entry.subject = &subject;
        entry.planned.cell = {subject.name, "m", "NONE", run};
        tasks.push_back({plan.size()});
        plan.push_back(entry);
      }
    }
    for (int k = 0; k < 2; ++k) slots.push_back(std::make_unique<pool::Slot>(k, 2, -1, 1, config, tree));
  }
  // As the engine does.
  std::string begin(pool::TaskQueue& queue, size_t slot) {
    const std::optional<plan::Task> task = queue.next(*slots[slot], slots);
    if (!task) return "";
    slots[slot]->subject = plan[task->place].subject->name;
    slots[slot]->current.emplace();
    slots[slot]->current->task = *task;
    return plan[task->place].planned.cell.text();
  }
};

}  // namespace

TEST_CASE("a slot goes on with its subject, else it takes one that no other slot is at") {
  Setting setting;
  pool::TaskQueue queue(setting.plan, setting.tree, setting.tasks);
  CHECK(setting.begin(queue, 0) == "A/NONE/1");
  CHECK(setting.begin(queue, 1) == "B/NONE/1");
  CHECK(setting.begin(queue, 0) == "A/NONE/2");
  CHECK(setting.begin(queue, 0) == "C/NONE/1");
  CHECK(setting.begin(queue, 1) == "B/NONE/2");
  CHECK(setting.begin(queue, 1) == "C/NONE/2");  // at last also one that another slot is at
  CHECK(queue.empty());
  CHECK(setting.begin(queue, 1).empty());
}

TEST_CASE("a cell that ended without a result comes last") {
  Setting setting;
  setting.tasks[0].failures = 1;
  pool::TaskQueue queue(setting.plan, setting.tree, setting.tasks);
  std::vector<std::string> order;
  for (std::string cell; !(cell = setting.begin(queue, 0)).empty();) order.push_back(cell);
  CHECK(order.front() == "A/NONE/2");
  CHECK(order.back() == "A/NONE/1");
}

TEST_CASE("a cell of another process comes back once nobody computes it any more") {
  Setting setting;
  pool::TaskQueue queue(setting.plan, setting.tree, {});
  const auto folder = setting.tree.cell(setting.plan[0].planned.cell);
  Lease::Watch leases, theirs;
  std::unique_ptr<Lease> lease = Lease::take(folder, theirs);
  REQUIRE(lease);
  queue.leave_elsewhere(setting.tasks[0]);
  queue.look_elsewhere(&leases);
  CHECK(queue.waiting().empty());
  CHECK(queue.has_elsewhere());
  CHECK_FALSE(queue.empty());
  lease.reset();
  queue.look_elsewhere(&leases);  // too soon after the first look
  CHECK(queue.waiting().empty());
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  queue.look_elsewhere(&leases);
  CHECK(queue.waiting().size() == 1);
  CHECK_FALSE(queue.has_elsewhere());
}
