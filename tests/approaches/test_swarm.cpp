#include <cmath>
#include <limits>
#include <set>

#include "approaches/search/particle_swarm.hpp"
#include "approaches/search/siblings.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

// Best at (1, 2, ...), where it is 0.
double shifted_sphere(std::span<const double> x) {
  double value = 0;
  for (size_t k = 0; k < x.size(); ++k) value -= std::pow(x[k] - static_cast<double>(k + 1), 2);
  return value;
}

// Many local optima, the best at 0.
double rastrigin(std::span<const double> x) {
  double value = 0;
  for (const double component : x) value -= component * component + 10 * (1 - std::cos(2 * M_PI * component));
  return value;
}

template <typename Function>
search::EvaluateSwarm each(const Function& function) {
  return [function](std::span<const double> candidates, std::span<double> fitness) {
    const size_t size = candidates.size() / fitness.size();
    for (size_t k = 0; k < fitness.size(); ++k) fitness[k] = function(candidates.subspan(k * size, size));
  };
}

search::SwarmSettings constricted(double slowest = 0) {
  return {.dimensions = std::vector<search::SwarmDimension>(
              3, {.mean = 0, .deviation = 2, .slowest = slowest, .fastest = 5}),
          .particles = 40,
          .iterations = 150,
          .rule = search::Constriction{.phi = 4.1, .patience = 150}};
}

search::SwarmSettings with_inertia() {
  return {.dimensions = std::vector<search::SwarmDimension>(3, {.mean = 1}),
          .particles = 40,
          .iterations = 150,
          .rule = search::Inertia{.low = -10, .high = 10, .patience = 150}};
}

TEST_CASE("a swarm with inertia finds optima from a single start", "[swarm]") {
  const search::SwarmResult result =
      search::swarm(with_inertia(), search::seeded_swarm_draws(1), each(shifted_sphere));
  REQUIRE(result.iterations == 150);
  REQUIRE(result.state.evaluations == 150 * 40);
  REQUIRE(result.state.series.size() == 150);
  REQUIRE(result.state.series[0] == shifted_sphere(std::vector<double>{1, 1, 1}));
  for (size_t k = 0; k < 3; ++k) REQUIRE(result.best[k] == Approx(static_cast<double>(k + 1)).margin(1e-3));
  REQUIRE(result.best_fitness == shifted_sphere(result.best));
  REQUIRE(std::ranges::is_sorted(result.state.series));
}

TEST_CASE("a constricted swarm without a least speed finds optima", "[swarm]") {
  const search::SwarmResult result =
      search::swarm(constricted(), search::seeded_swarm_draws(1), each(shifted_sphere));
  REQUIRE(result.iterations == 150);
  REQUIRE(result.state.evaluations == 151 * 40);
  REQUIRE(result.state.series.size() == 151);
  for (size_t k = 0; k < 3; ++k) REQUIRE(result.best[k] == Approx(static_cast<double>(k + 1)).margin(0.05));
  REQUIRE(result.best_fitness == shifted_sphere(result.best));
  const search::SwarmResult hilly =
      search::swarm(constricted(), search::seeded_swarm_draws(2), each(rastrigin));
  REQUIRE(hilly.best_fitness > -3);
  REQUIRE(hilly.state.series.front() < -10);
}

TEST_CASE("a least speed keeps a swarm from settling", "[swarm]") {
  const search::SwarmResult result =
      search::swarm(constricted(0.5), search::seeded_swarm_draws(1), each(shifted_sphere));
  REQUIRE(result.best_fitness > -1);
  REQUIRE(result.best_fitness <
          search::swarm(constricted(), search::seeded_swarm_draws(1), each(shifted_sphere)).best_fitness);
  for (const double component : result.state.speed) {
    REQUIRE(std::abs(component) >= 0.5);
    REQUIRE(std::abs(component) <= 5);
  }
}

// Draws under the test's control: particle i starts at (i, 10 i).
search::SwarmDraws scripted(double first, double second) {
  search::SwarmDraws draws;
  draws.start = [](int64_t i, std::span<double> normals) {
    for (size_t k = 0; k < normals.size(); ++k) normals[k] = static_cast<double>(i) * (k == 0 ? 1 : 10);
  };
  draws.speed = [](int64_t i, std::span<double> uniforms) {
    for (double& value : uniforms) value = 0.5 + 0.25 * static_cast<double>(i);
  };
  draws.pull = [=](int64_t, int64_t, std::span<double> uniforms) {
    for (size_t k = 0; k < uniforms.size(); ++k) uniforms[k] = k < uniforms.size() / 2 ? first : second;
  };
  return draws;
}

TEST_CASE("two moves of a constricted swarm, computed by hand", "[swarm]") {
  const double phi = 4.1, chi = 2 / (2.1 + std::sqrt(4.1 * 4.1 - 4 * 4.1));
  REQUIRE(chi == Approx(0.7298).margin(1e-4));
  search::SwarmSettings settings{.dimensions = {{.mean = 0, .deviation = 1}, {.mean = 0, .deviation = 1}},
                                 .particles = 2,
                                 .iterations = 2,
                                 .rule = search::Constriction{}};
  std::vector<std::vector<double>> seen;
  const auto sum = [&](std::span<const double> candidates, std::span<double> fitness) {
    seen.emplace_back(candidates.begin(), candidates.end());
    for (size_t k = 0; k < fitness.size(); ++k) fitness[k] = -candidates[2 * k] - candidates[2 * k + 1];
  };
  // r1 = 0.5 phi, r2 = 0.1 phi: particle 0 at (0,0) leads, and 1 is at (1, 10).
  SECTION("positions move with the old speed") {
    const search::SwarmResult result = search::swarm(settings, scripted(0.5, 0.1), sum);
    REQUIRE(seen[0] == std::vector<double>{0, 0, 1, 10});
    REQUIRE(seen[1] == seen[0]);        // starts at rest
    const double v = -chi * 0.1 * phi;  // of particle 1, in units of its distance from the leader
    REQUIRE(seen[2][2] == Approx(1 + v));
    REQUIRE(seen[2][3] == Approx(10 + 10 * v));
    // Then its own best is still the start, as that of the second move is only known after it.
    REQUIRE(result.state.speed[2] ==
            Approx(chi * (v + 0.5 * phi * (1 - (1 + v)) + 0.1 * phi * (0 - (1 + v)))));
    REQUIRE(result.state.best_position[2] == seen[2][2]);
    REQUIRE(result.best == std::vector<double>{0, 0});
  }
  SECTION("speeds are forced into their bounds, 0 counting as negative") {
    settings.dimensions = {{.mean = 0, .deviation = 1, .slowest = 0.5, .fastest = 0.6},
                           {.mean = 0, .deviation = 1, .slowest = 0.25, .fastest = 1}};
    settings.iterations = 1;
    const search::SwarmResult result = search::swarm(settings, scripted(0.5, 0.1), sum);
    // The leader's would be 0; particle 1's -0.3 and -3.
    REQUIRE(result.state.speed == std::vector<double>{-0.5, -0.25, -0.5, -1});
  }
}

TEST_CASE("a move with inertia, computed by hand", "[swarm]") {
  search::SwarmSettings settings{
      .dimensions = {{.mean = 0, .deviation = 1}, {.mean = 0, .deviation = 1}},
      .particles = 2,
      .iterations = 3,
      .rule = search::Inertia{
          .inertia = 0.8, .own = 0.4, .common = 0.3, .start_speed = 2, .low = -20, .high = 20}};
  std::vector<std::vector<double>> seen;
  const auto sum = [&](std::span<const double> candidates, std::span<double> fitness) {
    seen.emplace_back(candidates.begin(), candidates.end());
    for (size_t k = 0; k < fitness.size(); ++k) fitness[k] = -candidates[2 * k] - candidates[2 * k + 1];
  };
  search::swarm(settings, scripted(0.5, 0.1), sum);
  // Start speeds 2 * 0.5 = 1 of particle 0, which leads, and 2 * 0.75 = 1.5 of particle 1.
  REQUIRE(seen[1][0] == Approx(0.8));
  const double speed = 0.8 * 1.5 + 0.3 * 0.1 * (0 - 1);
  REQUIRE(seen[1][2] == Approx(1 + speed));
  // Both are worse than their starts, so those stay the bests.
  REQUIRE(seen[2][2] ==
          Approx(seen[1][2] + 0.8 * speed + 0.4 * 0.5 * (1 - seen[1][2]) + 0.3 * 0.1 * (0 - seen[1][2])));
  REQUIRE(seen[2][3] == Approx(seen[1][3] + 0.8 * (0.8 * 1.5 + 0.3 * 0.1 * (0 - 10)) +
                               0.4 * 0.5 * (10 - seen[1][3]) + 0.3 * 0.1 * (0 - seen[1][3])));
}

TEST_CASE("positions wrap around", "[swarm]") {
  REQUIRE(search::wrapped(3, -10, 10) == 3);
  REQUIRE(search::wrapped(-10, -10, 10) == -10);
  REQUIRE(search::wrapped(10, -10, 10) == 10);
  REQUIRE(search::wrapped(-10.5, -10, 10) == 9.5);
  REQUIRE(search::wrapped(11.5, -10, 10) == -8.5);
  REQUIRE(search::wrapped(-75, -10, 10) == Approx(5));
  REQUIRE(search::wrapped(52, -10, 10) == Approx(-8));
  REQUIRE(search::wrapped(7, 2, 2) == 2);
  // Every particle runs out of this box sooner or later.
  search::SwarmSettings settings = with_inertia();
  settings.rule = search::Inertia{.low = 0.75, .high = 1.25, .patience = 150};
  bool left = false;
  const auto inside = [&](std::span<const double> candidates, std::span<double> fitness) {
    for (const double value : candidates) {
      REQUIRE((value >= 0.75 && value <= 1.25));
      left |= value < 1;  // all start at 1 with speeds above 0
    }
    each(shifted_sphere)(candidates, fitness);
  };
  search::swarm(settings, search::seeded_swarm_draws(3), inside);
  REQUIRE(left);
}

// Fitness is `value` of the evaluation's number, for all particles; how many iterations that takes.
template <typename Value>
int64_t iterations_with(search::SwarmSettings settings, const Value& value) {
  int64_t calls = 0;
  settings.iterations = 60;
  const auto same = [&](std::span<const double>, std::span<double> fitness) {
    std::ranges::fill(fitness, value(calls));
    ++calls;
  };
  const search::SwarmResult result = search::swarm(settings, search::seeded_swarm_draws(1), same);
  REQUIRE(result.iterations + (std::holds_alternative<search::Constriction>(settings.rule) ? 1 : 0) == calls);
  return result.iterations;
}

TEST_CASE("a constricted swarm stops from iteration index patience + 1 on", "[swarm]") {
  search::SwarmSettings settings = constricted();
  settings.rule = search::Constriction{.patience = 10};
  REQUIRE(iterations_with(settings, [](int64_t) { return 1.0; }) == 12);  // indices 0 to 11
  // The last gain is in iteration index 20, which evaluation 21 is: index 30 is the first with none in ten.
  REQUIRE(iterations_with(
              settings, [](int64_t call) { return static_cast<double>(std::min<int64_t>(call, 21)); }) == 31);
  REQUIRE(iterations_with(settings, [](int64_t call) { return static_cast<double>(call); }) == 60);
  // A gain in iteration index 1 is too long ago to be seen at index 11.
  REQUIRE(iterations_with(settings, [](int64_t call) { return call > 1 ? 2.0 : 1.0; }) == 12);
  REQUIRE(iterations_with(settings, [](int64_t call) { return call > 2 ? 2.0 : 1.0; }) == 13);
}

TEST_CASE("a swarm with inertia stops after ten changes below the tolerance", "[swarm]") {
  search::SwarmSettings settings = with_inertia();
  settings.rule = search::Inertia{.low = -10, .high = 10, .tolerance = 1e-3, .patience = 10};
  REQUIRE(iterations_with(settings, [](int64_t) { return -0.5; }) == 11);  // indices 0 to 10
  // Changes are held against 1 + |best|: 0.0014 of 1.5 is below a thousandth, 0.0016 is not.
  REQUIRE(iterations_with(settings, [](int64_t call) { return -0.5 + 1e-12 * static_cast<double>(call); }) ==
          11);
  REQUIRE(iterations_with(settings, [](int64_t call) { return call < 5 ? -0.5 : -0.4986; }) == 11);
  REQUIRE(iterations_with(settings, [](int64_t call) { return call < 5 ? -0.5 : -0.4984; }) == 16);
}

TEST_CASE("fitness that is no number loses", "[swarm]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (search::SwarmSettings settings : {constricted(), with_inertia()}) {
    const auto half = [&](std::span<const double> x) { return x[0] > 1.01 ? nan : shifted_sphere(x); };
    const search::SwarmResult result = search::swarm(settings, search::seeded_swarm_draws(5), each(half));
    REQUIRE(result.best[0] <= 1.01);
    REQUIRE(result.best_fitness > shifted_sphere(std::vector<double>{1, 1, 1}));
    const search::SwarmResult none =
        search::swarm(settings, search::seeded_swarm_draws(5), each([&](auto) { return nan; }));
    REQUIRE(none.best.size() == 3);
    REQUIRE(none.best_fitness == -std::numeric_limits<double>::infinity());
  }
}

TEST_CASE("a stopped swarm goes on bit for bit from every iteration", "[swarm]") {
  for (search::SwarmSettings settings : {constricted(0.1), with_inertia()}) {
    settings.iterations = 25;
    settings.particles = 7;
    const search::SwarmDraws draws = search::seeded_swarm_draws(9);
    int64_t reported = 0;
    const search::SwarmResult whole =
        search::swarm(settings, draws, each(rastrigin),
                      {{}, [&](const search::SwarmState& state) { reported = state.evaluated; }});
    const auto rounds = static_cast<int64_t>(whole.state.series.size());
    REQUIRE(reported == rounds);
    for (int64_t polls = 0; polls < rounds; ++polls) {
      int64_t left = polls;
      const search::SwarmResult part =
          search::swarm(settings, draws, each(rastrigin), {[&] { return left-- == 0; }, nullptr});
      REQUIRE(part.stopped);
      REQUIRE(part.state.evaluated == polls);
      REQUIRE(part.best.empty() == (polls == 0));
      std::map<std::string, at::Tensor> saved;
      part.state.save(saved);
      const search::SwarmResult rest =
          search::swarm(settings, draws, each(rastrigin), {}, search::SwarmState::load(saved));
      REQUIRE_FALSE(rest.stopped);
      REQUIRE(rest.best == whole.best);
      REQUIRE(rest.best_fitness == whole.best_fitness);
      REQUIRE(rest.iterations == whole.iterations);
      REQUIRE(rest.state.position == whole.state.position);
      REQUIRE(rest.state.speed == whole.state.speed);
      REQUIRE(rest.state.best_position == whole.state.best_position);
      REQUIRE(rest.state.series == whole.state.series);
      REQUIRE(rest.state.leader == whole.state.leader);
      REQUIRE(rest.state.evaluations == whole.state.evaluations);
    }
  }
  REQUIRE_FALSE(search::SwarmState::load({}).has_value());
}

TEST_CASE("a swarm's draws depend on their place alone", "[swarm]") {
  const search::SwarmDraws draws = search::seeded_swarm_draws(4);
  std::set<std::vector<double>> seen;
  for (int64_t move = 1; move < 30; ++move) {
    for (int64_t i = 0; i < 5; ++i) {
      std::vector<double> numbers(4), again(4);
      draws.pull(move, i, numbers);
      search::seeded_swarm_draws(4).pull(move, i, again);
      REQUIRE(numbers == again);
      REQUIRE(seen.insert(numbers).second);
      for (const double value : numbers) REQUIRE((value >= 0 && value < 1));
    }
  }
}

TEST_CASE("siblings are the rest of the kernel", "[swarm]") {
  const Network& network = testing::tiny_network();
  const TargetLayer layer = target_layers(network).back();
  const at::Tensor kernel = network.parameters()[layer.weight].value.to(at::kDouble);  // (4, 10)
  const std::vector<search::SwarmDimension> found =
      search::sibling_dimensions(network, {{layer.weight, 0}, {layer.weight, 27}, {layer.weight, 39}});
  const int64_t places[][2] = {{0, 0}, {2, 7}, {3, 9}};
  for (size_t k = 0; k < 3; ++k) {
    std::vector<double> rest;
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t column = 0; column < 10; ++column) {
        if (row != places[k][0] && column != places[k][1]) rest.push_back(kernel[row][column].item<double>());
      }
    }
    const at::Tensor siblings = at::tensor(rest, at::kDouble);
    REQUIRE(siblings.numel() == 27);
    REQUIRE(found[k].mean == Approx(siblings.mean().item<double>()));
    REQUIRE(found[k].deviation == Approx(siblings.std(false).item<double>()));
    const double range = (kernel.max() - kernel.min()).item<double>();
    REQUIRE(found[k].slowest == Approx(range / 5));
    REQUIRE(found[k].fastest == Approx(range * 5));
  }
}

}  // namespace
}  // namespace harness
