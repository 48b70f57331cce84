#include "approaches/bounds/unit_edit.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "harness/model/autograd.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/graph.hpp"

namespace harness::bounds {
namespace {

constexpr double kMomentDecay = 0.9, kSquareDecay = 0.999, kAdamEpsilon = 1e-8;

ParameterId bias_of(const Network& network, const TargetLayer& layer) {
  return network.nodes()[static_cast<size_t>(layer.node)].parameters.at(1);
}

// What the activation is given: row . x + bias; at check layer 0 the unit's value itself.
at::Tensor weighted(const NeuronSite& site, int64_t unit, const at::Tensor& x, const at::Tensor& row,
                    const at::Tensor& bias) {
  return site.layer ? x.matmul(row) + bias : x.select(1, unit);
}

bool has_activation(const NeuronSite& site) {
  return site.layer && site.layer->behind != site.layer->node;
}

at::Tensor activated(const Network& network, const NeuronSite& site, const at::Tensor& sums) {
  if (!has_activation(site)) return sums;
  return execute(network.nodes()[static_cast<size_t>(site.layer->behind)], {sums.unsqueeze(1)}, {})
      .squeeze(1);
}

// Copies `values` (float64) into the part of a parameter that `part` selects.
void set_values(Network& network, ParameterId id, const std::function<at::Tensor(const at::Tensor&)>& part,
                const at::Tensor& values) {
  const at::Tensor changed = graph::constant_value(network, id).clone();
  part(changed).copy_(values);
  network.set_parameter(id, changed);
}

}  // namespace

Unit unit_of(const Network& network, const NeuronSite& site, int64_t unit) {
  if (!site.layer) return {.row = at::empty({0}, at::kDouble)};
  const ParameterId bias = bias_of(network, *site.layer);
  return {.row = graph::constant_value(network, site.layer->weight)[unit].to(at::kCPU, at::kDouble),
          .bias = bias < 0 ? 0 : graph::constant_value(network, bias)[unit].item<double>()};
}

UnitFit fit_unit(const Network& network, const NeuronSite& site, int64_t unit, const at::Tensor& features,
                 const UnitTargets& targets, const FitSettings& settings, RandomStream& stream) {
  UnitFit fit{.unit = unit_of(network, site, unit)};
  const int64_t inputs = features.size(0), width = fit.unit.row.numel();
  const at::Tensor all = features.cpu();
  // One vector: row, bias, scale, shift.
  at::Tensor theta = at::cat({fit.unit.row, at::tensor({fit.unit.bias, 1.0, 0.0}, at::kDouble)});
  at::Tensor free = at::ones_like(theta);
  if (!site.layer || bias_of(network, *site.layer) < 0) free[width] = 0;
  if (bias_of(network, site.next) < 0) free[width + 2] = 0;
  at::Tensor moment = at::zeros_like(theta), square = at::zeros_like(theta);

  const auto value_of = [&](const at::Tensor& sums) { return activated(network, site, sums); };
  const auto sums_of = [&](const at::Tensor& x) {
    return weighted(site, unit, x, theta.slice(0, 0, width), theta[width]);
  };
  const auto distance = [&](const at::Tensor& value, const at::Tensor& low, const at::Tensor& high) {
    const at::Tensor out = theta[width + 1] * value + theta[width + 2];
    return out - at::minimum(at::maximum(out, low), high);
  };
  const auto loss_on_all = [&] {
    return distance(value_of(sums_of(all.to(at::kDouble))), targets.low, targets.high)
        .square()
        .mean()
        .item<double>();
  };
  const at::NoGradGuard no_grad;
  fit.first_loss = loss_on_all();
  for (int64_t epoch = 0; epoch < settings.epochs; ++epoch) {
    const at::Tensor order = at::tensor(stream.permutation(inputs), at::kLong);
    for (const at::Tensor& rows : order.split(settings.batch)) {
      const at::Tensor x = all.index_select(0, rows).to(at::kDouble);
      at::Tensor sums = sums_of(x), value = sums, slope = at::ones_like(sums);
      if (has_activation(site)) {  // its derivative is the only thing left to autograd
        const at::AutoGradMode with_gradients(true);
        sums = sums.requires_grad_(true);
        value = value_of(sums);
        slope = grad({value}, {sums}, {slope})[0];
        value = value.detach();
      }
      const at::Tensor away =
          distance(value, targets.low.index_select(0, rows), targets.high.index_select(0, rows)) *
          (2.0 / static_cast<double>(rows.numel()));
      const at::Tensor back = away * slope * theta[width + 1];
      const at::Tensor of_row = site.layer ? back.matmul(x) : theta.slice(0, 0, 0);
      const at::Tensor gradient =
          at::cat({of_row, at::stack({back.sum(), away.dot(value), away.sum()})}) * free;
      ++fit.steps;
      const auto step = static_cast<double>(fit.steps);
      moment.mul_(kMomentDecay).add_(gradient, 1 - kMomentDecay);
      square.mul_(kSquareDecay).addcmul_(gradient, gradient, 1 - kSquareDecay);
      const at::Tensor size = (square / (1 - std::pow(kSquareDecay, step))).sqrt_().add_(kAdamEpsilon);
      theta.addcdiv_(moment, size, -settings.learning_rate / (1 - std::pow(kMomentDecay, step)));
    }
  }
  fit.last_loss = loss_on_all();
  const double* last = theta.const_data_ptr<double>() + width;
  fit.unit = {.row = theta.slice(0, 0, width).clone(), .bias = last[0], .scale = last[1], .shift = last[2]};
  return fit;
}

void write_unit(Network& network, const NeuronSite& site, int64_t number, const Unit& unit) {
  const at::NoGradGuard no_grad;
  const auto own = [number](const at::Tensor& value) { return value.select(0, number); };
  const auto all = [](const at::Tensor& value) { return value; };
  const auto own_column = [number](const at::Tensor& value) { return value.select(1, number); };
  if (site.layer) {
    set_values(network, site.layer->weight, own, unit.row);
    const ParameterId bias = bias_of(network, *site.layer);
    if (bias >= 0) set_values(network, bias, own, at::scalar_tensor(unit.bias, at::kDouble));
  }
  // The shift passes through the old column.
  const at::Tensor column =
      own_column(graph::constant_value(network, site.next.weight)).to(at::kCPU, at::kDouble);
  const ParameterId bias = bias_of(network, site.next);
  if (bias >= 0) {
    set_values(network, bias, all,
               graph::constant_value(network, bias).to(at::kCPU, at::kDouble).add(column, unit.shift));
  }
  set_values(network, site.next.weight, own_column, column * unit.scale);
}

at::Tensor unit_values(const Network& network, const NeuronSite& site, int64_t unit,
                       const at::Tensor& features) {
  const at::NoGradGuard no_grad;
  const Unit now = unit_of(network, site, unit);
  return activated(network, site,
                   weighted(site, unit, features.to(at::kCPU, at::kDouble), now.row,
                            at::scalar_tensor(now.bias, at::kDouble)))
      .contiguous();
}

std::vector<ParameterId> edited_parameters(const Network& network, const NeuronSite& site) {
  std::vector<ParameterId> ids;
  for (const TargetLayer* layer : {site.layer ? &*site.layer : nullptr, &site.next}) {
    if (layer == nullptr) continue;
    ids.push_back(layer->weight);
    if (bias_of(network, *layer) >= 0) ids.push_back(bias_of(network, *layer));
  }
  return ids;
}

Touched touched_by_units(const Network& network, const NeuronSite& site, const std::set<int64_t>& units) {
  Touched touched;
  const auto name = [&](ParameterId id) { return network.parameters()[static_cast<size_t>(id)].name; };
  const at::Tensor next = graph::constant_value(network, site.next.weight);
  for (const int64_t unit : units) {
    if (site.layer) {
      const int64_t width = graph::constant_value(network, site.layer->weight).size(1);
      for (int64_t k = 0; k < width; ++k)
        touched.weights[name(site.layer->weight)].push_back(unit * width + k);
      const ParameterId bias = bias_of(network, *site.layer);
      if (bias >= 0) touched.weights[name(bias)].push_back(unit);
    }
    for (int64_t j = 0; j < next.size(0); ++j)
      touched.weights[name(site.next.weight)].push_back(j * next.size(1) + unit);
  }
  const ParameterId bias = bias_of(network, site.next);
  for (int64_t j = 0; bias >= 0 && j < next.size(0); ++j) touched.weights[name(bias)].push_back(j);
  return touched;
}

}  // namespace harness::bounds
