#include "tests/approaches/pretend_device.hpp"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_cpu_dispatch.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/unfold_cpu_dispatch.h>
#include <ATen/ops/view_cpu_dispatch.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace harness::testing {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;

constexpr size_t kPage = 4096;
constexpr size_t kSpace = size_t{1} << 34;  // of addresses

// One range of forbidden addresses and, kSpace behind it, the memory itself.
class Memory {
 public:
  char* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t size = (bytes + kPage - 1) / kPage * kPage;
    std::vector<char*>& free = free_[size];
    if (!free.empty()) {
      char* const address = free.back();
      free.pop_back();
      return address;
    }
    if (base_ == nullptr) {
      base_ = static_cast<char*>(
          mmap(nullptr, 2 * kSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
      TORCH_CHECK(base_ != MAP_FAILED && mprotect(base_ + kSpace, kSpace, PROT_READ | PROT_WRITE) == 0);
    }
    TORCH_CHECK(used_ + size <= kSpace, "out of memory");
    used_ += size;
    return base_ + used_ - size;
  }
  void give_back(char* address, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_[(bytes + kPage - 1) / kPage * kPage].push_back(address);
  }

 private:
  std::mutex mutex_;
  char* base_ = nullptr;
  size_t used_ = 0;
  std::map<size_t, std::vector<char*>> free_;
};

Memory& memory() {
  static Memory made;
  return made;
}

struct Allocation {
  char* address;
  size_t bytes;
};

void forget(void* context) {
  auto* const allocation = static_cast<Allocation*>(context);
  memory().give_back(allocation->address, allocation->bytes);
  delete allocation;
}

struct Allocator : at::Allocator {
  at::DataPtr allocate(size_t bytes) override {
    char* const address = memory().take(std::max<size_t>(bytes, 1));
    return {address, new Allocation{address, std::max<size_t>(bytes, 1)}, &forget, pretend_device()};
  }
  at::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override { TORCH_CHECK(false, "a copy past ATen"); }
};

Allocator& allocator() {
  static Allocator made;
  return made;
}

struct Guard : c10::impl::NoOpDeviceGuardImpl<kType> {
  at::Device exchangeDevice(at::Device) const override { return pretend_device(); }
  at::Device getDevice() const override { return pretend_device(); }
  c10::Stream getStream(at::Device) const noexcept override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, pretend_device()); }
};

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

bool is_pretended(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kType;
}

std::mutex counting;
std::map<std::string, int64_t> calls;
thread_local int within = 0;  // of operations that are being computed on the CPU

struct OnCpu {
  OnCpu() { ++within; }
  ~OnCpu() { --within; }
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;
};

void note(const std::string& what) {
  const std::lock_guard<std::mutex> lock(counting);
  ++calls[what];
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           type.value_or(at::kFloat));
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   type.value_or(at::kFloat), format);
}

// The memory of a tensor as one of the CPU.
at::Tensor unveiled(const at::Tensor& tensor) {
  if (!is_pretended(tensor)) return tensor;
  auto* const address = static_cast<char*>(const_cast<void*>(tensor.storage().data()));
  char* const data = address + kSpace + tensor.storage_offset() * static_cast<int64_t>(tensor.element_size());
  return at::from_blob(data, tensor.sizes(), tensor.strides(), at::TensorOptions(tensor.scalar_type()));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  if (within == 0 && is_pretended(from) && !is_pretended(to)) note("read");
  unveiled(to).copy_(unveiled(from));
  return to;
}

at::Tensor& set_source(at::Tensor& self, c10::Storage source, int64_t offset, c10::IntArrayRef size,
                       c10::IntArrayRef stride) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(source));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return self;
}

const at::Tensor& resize_pretended(const at::Tensor& self, c10::IntArrayRef size,
                                   std::optional<at::MemoryFormat> format) {
  const at::Tensor larger = empty(size, self.scalar_type(), {}, {}, {}, format);
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(larger.storage());
  self.unsafeGetTensorImpl()->set_sizes_and_strides(larger.sizes(), larger.strides());
  return self;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) resize_pretended(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

std::vector<at::Tensor> tensors_of(const torch::jit::Stack& arguments) {
  std::vector<at::Tensor> tensors;
  for (const c10::IValue& value : arguments) {
    value.visit([&](const c10::IValue& part) {
      if (part.isTensor() && part.toTensor().defined()) tensors.push_back(part.toTensor());
      return part.isTensor();
    });
  }
  return tensors;
}

void check(const std::string& name, const torch::jit::Stack& arguments) {
  const std::vector<at::Tensor> tensors = tensors_of(arguments);
  const bool any = std::any_of(tensors.begin(), tensors.end(), is_pretended);
  const bool indices_excepted =
      name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_";
  for (const at::Tensor& tensor : tensors) {
    const bool number = tensor.dim() == 0, index = indices_excepted && tensor.scalar_type() == at::kLong;
    TORCH_CHECK(!any || is_pretended(tensor) || number || index, name,
                ": expected all tensors to be on the same device, but found at least two devices, ",
                pretend_device(), " and ", tensor.device());
  }
  for (const c10::IValue& value : arguments) {
    TORCH_CHECK(!value.isGenerator() || value.toGenerator().device().type() == kType, name, ": expected a '",
                pretend_device(), "' generator, found one of the CPU");
  }
  if (name == "aten::native_batch_norm_backward") {
    for (const size_t k : {5, 6}) {
      TORCH_CHECK(arguments.at(k).isTensor() && arguments[k].toTensor().defined(), name,
                  ": the saved statistics should always be defined");
    }
  }
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const std::string name = op.schema().name();
  const auto first = stack->end() - static_cast<int64_t>(op.schema().arguments().size());
  const torch::jit::Stack arguments(first, stack->end());
  if (within == 0) {
    check(name, arguments);
    note(name == "aten::_local_scalar_dense" ? "read" : name);
    const bool put = name == "aten::index_put_" || name == "aten::_index_put_impl_";
    if (put && arguments.at(3).toBool()) note("accumulate");
  }
  const OnCpu computing;
  at::native::cpu_fallback(op, stack);
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation,
                       bool transposed, c10::IntArrayRef output_padding, int64_t groups) {
  const bool biased = bias && bias->defined();
  check("aten::convolution", biased ? torch::jit::Stack{x, weight, *bias} : torch::jit::Stack{x, weight});
  const OnCpu computing;
  return at::convolution(x.cpu(), weight.cpu(), biased ? bias->cpu() : at::Tensor(), stride, padding,
                         dilation, transposed, output_padding, groups)
      .to(pretend_device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight, c10::IntArrayRef stride,
    c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed, c10::IntArrayRef output_padding,
    int64_t groups, std::array<bool, 3> wanted) {
  check("aten::convolution_backward", {gradient, x, weight});
  const OnCpu computing;
  const auto [of_x, of_weight, of_bias] =
      at::convolution_backward(gradient.cpu(), x.cpu(), weight.cpu(), at::IntArrayRef({gradient.size(1)}),
                               stride, padding, dilation, transposed, output_padding, groups, wanted);
  const auto moved = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(pretend_device()) : at::Tensor();
  };
  return {moved(of_x), moved(of_weight), moved(of_bias)};
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &at::cpu::as_strided);
  library.impl("unfold", &at::cpu::unfold);
  library.impl("view", &at::cpu::view);
  library.impl("_reshape_alias", &at::cpu::_reshape_alias);
  library.impl("set_.source_Storage_storage_offset", &set_source);
  library.impl("resize_", &resize_pretended);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("convolution_overrideable", &convolution);
  library.impl("convolution_backward_overrideable", &convolution_backward);
}

}  // namespace

at::Device pretend_device() {
  static const bool registered = [] {
    c10::register_privateuse1_backend("pretend");
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    return true;
  }();
  (void)registered;
  return {kType, 0};
}

std::map<std::string, int64_t> take_pretended_calls() {
  const std::lock_guard<std::mutex> lock(counting);
  return std::exchange(calls, {});
}

}  // namespace harness::testing
