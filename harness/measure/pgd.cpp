#include "harness/measure/pgd.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "harness/core/error.hpp"
#include "harness/core/random.hpp"
#include "harness/measure/pgd_step.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness {
namespace {

// d/dv of sum softmax cross-entropy of v. Where v is itself a softmax output this is the second softmax of
// the study's attack; the two backward formulas stay apart, in float32, as ZERO_GRADIENT depends on their
// rounding.
at::Tensor cross_entropy_seed(const at::Tensor& values, const at::Tensor& labels) {
  const at::Tensor target = at::zeros_like(values).scatter_(1, labels.unsqueeze(1), -1.0);
  const at::Tensor log_softmax = at::log_softmax(values, 1);
  return at::_log_softmax_backward_data(target, log_softmax, 1, values.scalar_type());
}

// d/dv of sum (largest other value - true value).
at::Tensor margin_seed(const at::Tensor& values, const at::Tensor& labels) {
  const at::Tensor truth = labels.unsqueeze(1);
  const at::Tensor others = values.scatter(1, truth, -std::numeric_limits<double>::infinity());
  return at::zeros_like(values).scatter_(1, others.argmax(1, /*keepdim=*/true), 1.0).scatter_(1, truth, -1.0);
}

struct Piece {
  int64_t begin = 0, end = 0;
};

// Pieces of `exactly` so many images, the last maybe fewer; 0: of nearly equal size, none above `most`.
std::vector<Piece> divide(int64_t count, int64_t exactly, int64_t maximum) {
  const int64_t pieces = (count + maximum - 1) / maximum;
  std::vector<Piece> result;
  if (exactly > 0) {
    for (int64_t begin = 0; begin < count; begin += exactly) {
      result.push_back({begin, std::min(begin + exactly, count)});
    }
  } else {
    for (int64_t k = 0; k < pieces; ++k) result.push_back({k * count / pieces, (k + 1) * count / pieces});
  }
  return result;
}

class Attack {
 public:
  Attack(const Network& network, const at::Tensor& x, const at::Tensor& labels,
         const std::vector<int64_t>& images, const PgdOptions& options)
      : network_(network),
        x_(x),
        labels_(labels),
        images_(images),
        options_(options),
        gradient_(network, logits_wanted(options) ? InputGradient::Of::logits : InputGradient::Of::output),
        box_{.epsilon = options.epsilon,
             .step = options.epsilon * options.relative_step,
             .low = options.low,
             .high = options.high} {
    result_.success.assign(images.size(), 0);
    result_.zero_gradient.assign(images.size(), 0);
  }

  bool concurrent() const { return gradient_.concurrent(); }

  void run(const Piece& piece) {
    at::NoGradGuard no_grad;
    const int64_t count = piece.end - piece.begin;
    const at::Device device = network_.device();
    const at::Tensor original = x_.narrow(0, piece.begin, count).to(device, at::kFloat).contiguous();
    const at::Tensor labels = labels_.narrow(0, piece.begin, count).to(device);
    at::Tensor x = original.clone();
    if (options_.random_start) {
      x = random_start(x_.narrow(0, piece.begin, count).to(at::kCPU, at::kFloat).contiguous(),
                       images_.data() + piece.begin, options_.seed, box_)
              .to(device);
    }
    const InputGradient::Seed seed = [&](const at::Tensor& values) {
      return options_.loss == AttackLoss::margin ? margin_seed(values, labels)
                                                 : cross_entropy_seed(values, labels);
    };
    for (int64_t step = 0; step < options_.steps; ++step) {
      const at::Tensor gradient = gradient_(x, seed);
      if (step == 0) mark_zero_gradients(gradient, piece.begin);
      ascend(x, original, gradient, box_);
    }
    const at::Tensor final = original + (x - original).clamp_(-options_.epsilon, options_.epsilon);
    const at::Tensor fooled = network_.classify(final).ne(labels).to(at::kCPU, at::kByte).contiguous();
    std::copy_n(fooled.const_data_ptr<uint8_t>(), count, result_.success.begin() + piece.begin);
  }

  PgdResult take(int64_t done) {
    result_.success.resize(static_cast<size_t>(done));
    result_.zero_gradient.resize(static_cast<size_t>(done));
    return std::move(result_);
  }

 private:
  static bool logits_wanted(const PgdOptions& options) {
    return options.on_logits || options.loss == AttackLoss::margin;
  }

  void mark_zero_gradients(const at::Tensor& gradient, int64_t begin) {
    const at::Tensor zero = gradient.eq(0).flatten(1).all(1).to(at::kCPU, at::kByte).contiguous();
    std::copy_n(zero.const_data_ptr<uint8_t>(), zero.numel(), result_.zero_gradient.begin() + begin);
  }

  const Network& network_;
  const at::Tensor& x_;
  const at::Tensor& labels_;
  const std::vector<int64_t>& images_;
  const PgdOptions& options_;
  InputGradient gradient_;
  PgdBox box_;
  PgdResult result_;  // pieces write to parts of their own
};

}  // namespace

int64_t preferred_piece(const Network& network) {
  constexpr int64_t kFloat = sizeof(float);
  // Without a graph, as much as a network of 64 channels at the input's size would need.
  const int64_t input = kFloat * graph::value_count(network.input_shape());
  int64_t largest = 16 * input, total = 32 * largest;
  if (network.importable()) {
    largest = std::max(input, kFloat * graph::max_value_count(network.nodes()));
    total = input + kFloat * graph::total_value_count(network.nodes());
  }
  if (!network.device().is_cpu()) {
    const int64_t unit = values_together(network.device(), 0) >> 26;  // 1, on a large GPU 4
    return std::clamp<int64_t>((unit << 31) / total, 1, 1000 * unit);
  }
  // The largest value of a piece about fits a core's cache, with enough images for the weights to be worth
  // reading; all values of a piece together, one piece per thread, stay within memory.
  const int64_t cached = std::clamp<int64_t>((int64_t{1} << 21) / largest, 16, 64);
  return std::clamp<int64_t>((int64_t{1} << 28) / total, 1, cached);
}

PgdResult attack(const Network& network, const at::Tensor& x, const at::Tensor& labels,
                 const std::vector<int64_t>& images, const PgdOptions& options,
                 const std::function<bool()>& keep_going) {
  const auto count = static_cast<int64_t>(images.size());
  if (x.size(0) != count || labels.numel() != count)
    interface_misuse("attack(): inputs, labels and images differ");
  if (count == 0) return {};
  const auto pieces = divide(count, options.piece, preferred_piece(network));
  Attack attack(network, x, labels, images, options);

  // Pieces are begun in order, each by whoever is free; one that is begun is finished, so that what is done
  // is always a first part of the inputs. On the CPU every piece has one thread for itself: no waiting within
  // small operations, and results that do not depend on the number of threads.
  std::mutex mutex;
  size_t next = 0;
  bool stopped = false;
  std::exception_ptr failure;
  const auto take = [&]() -> std::optional<size_t> {
    const std::lock_guard<std::mutex> lock(mutex);
    if (stopped || failure || next == pieces.size()) return std::nullopt;
    if (keep_going && !keep_going()) {
      stopped = true;
      return std::nullopt;
    }
    return next++;
  };
  const auto work = [&](int64_t, int64_t) {
    while (const auto piece = take()) {
      try {
        attack.run(pieces[*piece]);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  if (attack.concurrent() && pieces.size() > 1) {
    at::parallel_for(0, std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(pieces.size())), 1,
                     work);
  } else {
    work(0, 1);
  }
  if (failure) std::rethrow_exception(failure);
  return attack.take(next == 0 ? 0 : pieces[next - 1].end);
}

}  // namespace harness
