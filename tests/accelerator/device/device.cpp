// A simulated accelerator: its memory is the CPU's, its discipline an accelerator's. Built once for each dispatch key
// (FAKE = CUDA, XPU, MPS or PrivateUse1) on a CPU-only torch, in which that key has no kernels of its own.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/detail/XPUHooksInterface.h>
#include <ATen/native/Resize.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/library.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>

#define STR_(x) #x
#define STR(x) STR_(x)

namespace py = pybind11;
using at::Tensor;
using c10::DeviceType;
using c10::DispatchKey;
using c10::IValue;

namespace {
constexpr DeviceType TYPE = DeviceType::FAKE;
constexpr DispatchKey KEY = DispatchKey::FAKE;
constexpr bool IS_MPS = TYPE == DeviceType::MPS;
const c10::Device DEVICE(TYPE, 0);
const c10::Stream STREAM(c10::Stream::DEFAULT, DEVICE);

// ---- settings and statistics -------------------------------------------------------------------------------------
std::atomic<int64_t> limit{int64_t(8) << 30}, used{0}, peak{0}, allocations{0};
std::atomic<bool> poison{true}, strict{true};
thread_local int quiet = 0;
// judge(op): whether a mixture of devices passes all the same, such as a test's own comparisons
py::object* judge = nullptr;
// hook(kind, op, bytes): called where an operator waits for the device, and where it copies from or to it
py::object* hook = nullptr;

void tell(const char* kind, const std::string& op, int64_t bytes) {
  if (hook == nullptr || quiet) return;
  py::gil_scoped_acquire gil;
  if (hook != nullptr) (*hook)(kind, op, bytes);
}

bool pardoned(const std::string& op) {
  if (judge == nullptr) return false;
  py::gil_scoped_acquire gil;
  return (*judge)(op).cast<bool>();
}

// ---- memory ------------------------------------------------------------------------------------------------------
void take(int64_t n) {
  int64_t now = used += n;
  allocations++;
  if (now > limit) {
    used -= n;
    TORCH_CHECK_WITH(OutOfMemoryError, false, STR(FAKE), " out of memory. Tried to allocate ", n, " bytes; ", now - n,
                     " of ", limit.load(), " are in use (simulated)");
  }
  int64_t before = peak;
  while (now > before && !peak.compare_exchange_weak(before, now)) {
  }
}

c10::Storage storage_over(size_t bytes, c10::DataPtr data, c10::Allocator* owner) {
  return c10::Storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), owner, /*resizable=*/true);
}

struct Block {
  void* data;
  int64_t size;
};
void free_block(void* context) {
  auto* block = static_cast<Block*>(context);
  used -= block->size;
  c10::free_cpu(block->data);
  delete block;
}

struct FakeAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    if (n == 0) return {nullptr, nullptr, [](void*) {}, DEVICE};
    take(n);
    void* data = c10::alloc_cpu(n);
    if (poison) memset(data, 0xFF, n);  // NaN in every float type
    return {data, new Block{data, int64_t(n)}, &free_block, DEVICE};
  }
  void copy_data(void* to, const void* from, std::size_t n) const override { default_copy_data(to, from, n); }
};
FakeAllocator allocator;

// What a CPU kernel made becomes the device's without a copy: the new storage keeps the CPU's alive.
struct Adopted {
  c10::Storage storage;
  int64_t size;
};
c10::DataPtr adopt(const c10::Storage& storage) {
  int64_t size = storage.nbytes();
  take(size);
  return {storage.mutable_data(), new Adopted{storage, size},
          [](void* context) {
            auto* a = static_cast<Adopted*>(context);
            used -= a->size;
            delete a;
          },
          DEVICE};
}

// ---- guard and hooks ---------------------------------------------------------------------------------------------
struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return TYPE; }
  c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
  c10::Device getDevice() const override { return DEVICE; }
  void setDevice(c10::Device d) const override { TORCH_CHECK(d.index() <= 0, "invalid device ordinal"); }
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return STREAM; }
  c10::Stream getDefaultStream(c10::Device) const override { return STREAM; }
  c10::Stream getNewStream(c10::Device, int) const override { return STREAM; }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return STREAM; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return STREAM; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};

// Its numbers differ from a CPU's of the same seed, as a CUDA generator's do.
struct FakeGenerator final : c10::GeneratorImpl {
  at::Generator inner;
  static uint64_t other(uint64_t seed) { return seed ^ 0x9E3779B97F4A7C15ull; }
  explicit FakeGenerator(uint64_t seed = c10::default_rng_seed_val)
      : GeneratorImpl(DEVICE, c10::DispatchKeySet(KEY)),
        inner(at::detail::createCPUGenerator(other(seed))),
        seed_(seed) {}
  void set_current_seed(uint64_t seed) override {
    seed_ = seed;
    inner.set_current_seed(other(seed));
  }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override {
    auto s = c10::detail::getNonDeterministicRandom();
    set_current_seed(s);
    return s;
  }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  FakeGenerator* clone_impl() const override {
    auto* g = new FakeGenerator(seed_);
    g->inner = inner.clone();
    return g;
  }
  uint64_t seed_;
};
const at::Generator& default_generator() {
  static at::Generator g = at::make_generator<FakeGenerator>();
  return g;
}

std::mutex pin_mutex;
std::map<uintptr_t, size_t> pinned;
bool is_pinned(const void* p) {
  std::lock_guard<std::mutex> lock(pin_mutex);
  auto at = reinterpret_cast<uintptr_t>(p);
  auto it = pinned.upper_bound(at);
  if (it == pinned.begin()) return false;
  --it;
  return at < it->first + it->second;
}

template <class Base>
struct Hooks : Base {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  c10::Device getDeviceFromPtr(void*) const override { return DEVICE; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<FakeGenerator>(); }
};
}  // namespace

namespace at {
#if defined(FAKE_IS_CUDA)
struct FakeHooks : Hooks<CUDAHooksInterface> {
  explicit FakeHooks(CUDAHooksArgs) {}
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  DeviceIndex current_device() const override { return 0; }
  int getNumGPUs() const override { return 1; }
  void deviceSynchronize(DeviceIndex) const override {}
};
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, FakeHooks)
#elif defined(FAKE_IS_XPU)
struct FakeHooks : Hooks<XPUHooksInterface> {
  bool hasXPU() const override { return true; }
};
C10_REGISTER_CLASS(XPUHooksRegistry, XPUHooks, FakeHooks)
#elif defined(FAKE_IS_MPS)
struct FakeHooks : Hooks<MPSHooksInterface> {
  bool hasMPS() const override { return true; }
  bool isOnMacOSorNewer(unsigned, unsigned) const override { return true; }
};
C10_REGISTER_CLASS(MPSHooksRegistry, MPSHooks, FakeHooks)
#else
struct FakeHooks : Hooks<PrivateUse1HooksInterface> {};
#endif
}  // namespace at

namespace {
// ---- the boxed kernel --------------------------------------------------------------------------------------------
const std::set<std::string> PRODUCTS = {"aten::mm",          "aten::bmm",          "aten::addmm", "aten::baddbmm",
                                        "aten::addbmm",      "aten::addmv",        "aten::mv",    "aten::dot",
                                        "aten::convolution", "aten::_convolution", "aten::linear"};
const std::set<std::string> WAITS = {"aten::_local_scalar_dense", "aten::nonzero",  "aten::equal",
                                     "aten::masked_select",       "aten::_unique2", "aten::unique_dim",
                                     "aten::unique_consecutive",  "aten::bincount"};
const std::set<std::string> TAKES_CPU_INDICES = {"aten::index", "aten::index_put", "aten::index_put_",
                                                 "aten::_index_put_impl_"};
const std::set<std::string> RANDOM = {"aten::normal_",        "aten::uniform_",  "aten::bernoulli_",
                                      "aten::random_",        "aten::randperm",  "aten::multinomial",
                                      "aten::exponential_",   "aten::normal",    "aten::bernoulli",
                                      "aten::native_dropout", "aten::rand_like", "aten::randn_like"};

bool on_device(const Tensor& t) { return t.defined() && t.device().type() == TYPE; }

void copy_view(const Tensor& from, const Tensor& to) {
  to.unsafeGetTensorImpl()->set_storage_offset(from.storage_offset());
  to.unsafeGetTensorImpl()->set_sizes_and_strides(from.sizes(), from.strides());
  if (from.is_conj()) to._set_conj(true);
  if (from.is_neg()) to._set_neg(true);
}

// The CPU's view of the device tensors that one operator is called with, and the way back.
struct Aliases {
  std::unordered_map<c10::StorageImpl*, c10::Storage> cpu;     // device storage -> CPU storage over the same bytes
  std::unordered_map<c10::StorageImpl*, c10::Storage> device;  // and back
  std::unordered_map<c10::StorageImpl*, Tensor> bases;         // CPU storage -> a device tensor over it
  std::unordered_map<c10::TensorImpl*, Tensor> tensors;        // CPU alias -> the device tensor that it stands for
  std::vector<std::pair<Tensor, Tensor>> written;              // (device, CPU)

  Tensor to_cpu(const Tensor& t, bool is_written) {
    auto storage = t.storage();
    auto* impl = storage.unsafeGetStorageImpl();
    auto& alias = cpu[impl];
    if (!alias) {
      alias = storage_over(storage.nbytes(), c10::DataPtr(storage.mutable_data(), c10::Device(DeviceType::CPU)),
                           c10::GetAllocator(DeviceType::CPU));
      device[alias.unsafeGetStorageImpl()] = storage;
      bases[alias.unsafeGetStorageImpl()] = t;
    }
    Tensor result =
        at::detail::make_tensor<c10::TensorImpl>(c10::Storage(alias), c10::DispatchKeySet(DispatchKey::CPU), t.dtype());
    copy_view(t, result);
    tensors[result.unsafeGetTensorImpl()] = t;
    if (is_written) written.emplace_back(t, result);
    return result;
  }

  // A CPU tensor that a kernel gave, as the device's.
  Tensor to_device(const Tensor& t) {
    if (!t.defined()) return t;
    auto known = tensors.find(t.unsafeGetTensorImpl());
    if (known != tensors.end()) return known->second;
    TORCH_INTERNAL_ASSERT(t.device().is_cpu());
    auto* impl = t.storage().unsafeGetStorageImpl();
    auto back = device.find(impl);
    c10::Storage storage;
    if (back != device.end()) {
      storage = back->second;
    } else {
      storage = storage_over(t.storage().nbytes(), adopt(t.storage()), &allocator);
      device[impl] = storage;
    }
    auto base = bases.find(impl);
    // A view is an inference tensor where its base is one, whatever mode is on.
    Tensor result =
        base == bases.end()
            ? at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(KEY), t.dtype())
            : at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(storage),
                                                       base->second.key_set(), t.dtype());
    copy_view(t, result);
    return result;
  }

  // Sizes, strides and memory of what was written to, for out= and in-place operators change them.
  void sync() {
    for (auto& [dev, alias] : written) {
      auto* d = dev.unsafeGetTensorImpl();
      auto* s = d->unsafe_storage().unsafeGetStorageImpl();
      auto* a = alias.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
      if (a->data() != s->data() || a->nbytes() != s->nbytes()) {
        const auto bytes = a->nbytes();
        auto holder = storage_over(bytes, a->set_data_ptr(c10::DataPtr()), c10::GetAllocator(DeviceType::CPU));
        s->set_data_ptr_noswap(adopt(holder));
        s->set_nbytes(holder.nbytes());
      }
      if (dev.sizes() != alias.sizes() || dev.strides() != alias.strides() ||
          dev.storage_offset() != alias.storage_offset()) {
        d->set_storage_offset(alias.storage_offset());
        d->set_sizes_and_strides(alias.sizes(), alias.strides());
      }
    }
  }
};

std::vector<Tensor> tensors_in(const IValue& value) {
  if (value.isTensor()) return {value.toTensor()};
  if (value.isTensorList()) return value.toTensorVector();
  std::vector<Tensor> found;
  if (value.isOptionalTensorList())
    for (const auto& t : value.toOptionalTensorVector())
      if (t.has_value()) found.push_back(*t);
  return found;
}

template <class Function>
IValue map_tensors(const IValue& value, const Function& function) {
  if (value.isTensor()) return function(value.toTensor());
  if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& t : value.toTensorVector()) list.push_back(function(t));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const auto& t : value.toOptionalTensorVector())
      list.push_back(t.has_value() ? std::optional<Tensor>(function(*t)) : t);
    return list;
  }
  return value;
}

void check_mps_dtype(at::ScalarType dtype) {
  const bool refused = dtype == at::kDouble || at::isComplexType(dtype) || at::isFloat8Type(dtype);
  TORCH_CHECK_TYPE(!IS_MPS || !refused, "Cannot convert a MPS Tensor to ", dtype,
                   " dtype as the MPS framework doesn't support it (simulated)");
}

// What real kernels refuse of a tensor on the device.
void check_dtype_of(const std::string& name, const Tensor& t) {
  check_mps_dtype(t.scalar_type());
  TORCH_CHECK_NOT_IMPLEMENTED(!PRODUCTS.count(name) || !at::isIntegralType(t.scalar_type(), true), "\"", name,
                              "_cuda\" not implemented for '", t.scalar_type(), "' (simulated)");
}

void check_devices(const c10::OperatorHandle& op, c10::ArrayRef<IValue> arguments) {
  const std::string& name = op.schema().name();
  std::optional<c10::Device> other;
  for (const IValue& value : arguments) {
    // cpu[device index] is an error, device[cpu index] is not
    const bool takes_cpu = value.isOptionalTensorList() && TAKES_CPU_INDICES.count(name);
    for (const Tensor& t : tensors_in(value)) {
      if (!t.defined()) continue;
      if (on_device(t))
        check_dtype_of(name, t);
      else if (!takes_cpu && !(t.is_cpu() && t.dim() == 0))
        other = t.device();
    }
    if (value.isGenerator()) {
      auto type = value.toGenerator().device().type();
      TORCH_CHECK(type == TYPE, "Expected a '", TYPE, "' device type for generator but found '", type, "' (", name,
                  ", simulated)");
    }
  }
  if (other.has_value() && strict && !pardoned(name))
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, ", DEVICE,
                " and ", *other, "! (", op.operator_name(), ", simulated)");
}

void tell_waits(const std::string& name, c10::ArrayRef<IValue> arguments) {
  if (WAITS.count(name)) tell("wait", name, 0);
  if (name != "aten::index") return;
  for (const Tensor& t : tensors_in(arguments[1]))
    if (t.defined() && (t.scalar_type() == at::kBool || t.scalar_type() == at::kByte))
      tell("wait", "aten::index(mask)", 0);
}

at::Generator cpu_generator(const at::Generator& generator) {
  return static_cast<FakeGenerator*>(generator.unsafeGetGeneratorImpl())->inner;
}

void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const std::string& name = op.schema().name();
  const auto& infos = op.schema().arguments();
  const auto arguments = torch::jit::last(*stack, infos.size());
  check_devices(op, arguments);
  tell_waits(name, arguments);
  bool any_on_device = false;
  for (const IValue& value : arguments)
    for (const Tensor& t : tensors_in(value)) any_on_device |= on_device(t);

  Aliases aliases;
  torch::jit::Stack cpu;
  for (size_t i = 0; i < infos.size(); i++) {
    const IValue& value = arguments[i];
    const auto* alias = infos[i].alias_info();
    const bool writes = alias != nullptr && alias->isWrite();
    if (value.isTensor() && writes && any_on_device)
      TORCH_CHECK(on_device(value.toTensor()) || !value.toTensor().defined(), "Expected out tensor to have device ",
                  DEVICE, ", but got ", value.toTensor().device(), " instead (", name, ", simulated)");
    if (value.isDevice())
      cpu.emplace_back(value.toDevice().type() == TYPE ? c10::Device(DeviceType::CPU) : value.toDevice());
    else if (value.isGenerator())
      cpu.emplace_back(cpu_generator(value.toGenerator()));
    else if (value.isNone() && infos[i].name() == "generator" && RANDOM.count(name))
      cpu.emplace_back(cpu_generator(default_generator()));
    else
      cpu.push_back(map_tensors(value, [&](const Tensor& t) { return on_device(t) ? aliases.to_cpu(t, writes) : t; }));
  }
  {
    struct Quiet {  // what a CPU kernel does inside of it is no wait for the device
      Quiet() { quiet++; }
      ~Quiet() { quiet--; }
    } guard;
    op.redispatchBoxed(c10::DispatchKeySet(DispatchKey::CPU), &cpu);
  }
  aliases.sync();
  torch::jit::drop(*stack, infos.size());
  for (const IValue& value : cpu)
    stack->push_back(map_tensors(value, [&](const Tensor& t) { return aliases.to_device(t); }));
}

// ---- kernels that differ -----------------------------------------------------------------------------------------
at::ScalarType checked_dtype(std::optional<at::ScalarType> given) {
  auto dtype = given.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
  check_mps_dtype(dtype);
  return dtype;
}

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool> pin, std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!pin.value_or(false), "Only dense CPU tensors can be pinned");
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(KEY), checked_dtype(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, c10::DispatchKeySet(KEY), checked_dtype(dtype));
}

Tensor as_cpu(const Tensor& t, Aliases& aliases) { return on_device(t) ? aliases.to_cpu(t, false) : t; }

Tensor& copy_(Tensor& self, const Tensor& source, bool non_blocking) {
  TORCH_CHECK(self.defined() && source.defined());
  if (self.is_meta() || source.is_meta()) return self;
  if (on_device(self)) check_mps_dtype(self.scalar_type());
  Aliases aliases;
  Tensor to = as_cpu(self, aliases), from = as_cpu(source, aliases);
  if (on_device(self) && !on_device(source)) tell(non_blocking ? "h2d async" : "h2d", "aten::copy_", source.nbytes());
  if (!on_device(self) && on_device(source)) tell(non_blocking ? "d2h async" : "d2h", "aten::copy_", source.nbytes());
  at::AutoDispatchBelowADInplaceOrView guard;
  to.copy_(from);
  return self;
}

Tensor _copy_from(const Tensor& self, const Tensor& target, bool non_blocking) {
  Tensor t = target;
  return copy_(t, self, non_blocking);
}

Tensor _copy_from_and_resize(const Tensor& self, const Tensor& target) {
  Tensor t = target;
  t.resize_(self.sizes());
  return copy_(t, self, false);
}

Tensor& set_storage(Tensor& self, c10::Storage source, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  TORCH_CHECK(source.device().type() == TYPE, "Attempted to set the storage of a tensor on device \"", self.device(),
              "\" to a storage on different device \"", source.device(), "\"");
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_storage_offset(offset);
  if (stride.data() == nullptr)
    impl->set_sizes_contiguous(size);
  else
    impl->set_sizes_and_strides(size, stride);
  return self;
}
Tensor& set_source(Tensor& self, c10::Storage source) {
  int64_t n = source.nbytes() / self.element_size();
  return set_storage(self, std::move(source), 0, n, {});
}
Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}
Tensor& set_none(Tensor& self) {
  return set_storage(self, storage_over(0, allocator.allocate(0), &allocator), 0, {0}, {});
}

int64_t sdp_choice(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask, double, bool,
                   std::optional<double>, bool) {
  // CUDA's fused kernels state this as an error. 0: the path without a fused kernel.
  if (mask.has_value() && mask->defined())
    TORCH_CHECK(
        mask->scalar_type() == at::kBool || mask->scalar_type() == q.scalar_type() || mask->scalar_type() == at::kFloat,
        "invalid dtype for bias - should match query's dtype");
  return 0;
}
Tensor sdpa(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask, double dropout,
            bool causal, std::optional<double> scale, bool gqa) {
  sdp_choice(q, k, v, mask, dropout, causal, scale, gqa);
  auto bias = mask;
  if (mask.has_value() && mask->defined() && mask->scalar_type() == at::kBool)
    bias = at::zeros(mask->sizes(), q.options()).masked_fill_(mask->logical_not(), -INFINITY);
  return std::get<0>(at::_scaled_dot_product_attention_math(q, k, v, bias, dropout, causal, std::nullopt, scale, gqa));
}
}  // namespace

C10_REGISTER_GUARD_IMPL(FAKE, Guard)

TORCH_LIBRARY_IMPL(_, FAKE, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, FAKE, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("copy_", TORCH_FN(copy_));
  m.impl("_copy_from", TORCH_FN(_copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(_copy_from_and_resize));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(set_storage));
  m.impl("set_.source_Storage", TORCH_FN(set_source));
  m.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  m.impl("set_", TORCH_FN(set_none));
  m.impl("_fused_sdp_choice", TORCH_FN(sdp_choice));
  if (TYPE == DeviceType::XPU || TYPE == DeviceType::MPS) m.impl("scaled_dot_product_attention", TORCH_FN(sdpa));
  // Composite on a CPU, or better as one: oneDNN instead of the paths for CUDA without cuDNN.
  for (const char* name :
       {"convolution", "linalg_vector_norm.out", "add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "eq.Tensor",
        "ne.Tensor", "lt.Tensor", "le.Tensor", "gt.Tensor", "ge.Tensor", "maximum", "minimum"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

PYBIND11_MODULE(EXTENSION, m) {
  m.def("start", [] {
    c10::SetAllocator(TYPE, &allocator, 1);
#if !defined(FAKE_IS_CUDA) && !defined(FAKE_IS_XPU) && !defined(FAKE_IS_MPS)
    at::RegisterPrivateUse1HooksInterface(new at::FakeHooks());
#endif
  });
  m.def("set_hook", [](py::object f) {
    delete hook;
    hook = f.is_none() ? nullptr : new py::object(f);
  });
  m.def("set_judge", [](py::object f) {
    delete judge;
    judge = f.is_none() ? nullptr : new py::object(f);
  });
  m.def("set_limit", [](int64_t n) { limit = n; });
  m.def("set_poison", [](bool on) { poison = on; });
  m.def("set_strict", [](bool on) { strict = on; });
  m.def("limit", [] { return limit.load(); });
  m.def("used", [] { return used.load(); });
  m.def("peak", [] { return peak.load(); });
  m.def("allocations", [] { return allocations.load(); });
  m.def("reset_peak", [] { peak = used.load(); });
  m.def("default_generator", [] { return default_generator(); });
  m.def("pin", [](uintptr_t p, size_t n) {
    std::lock_guard<std::mutex> lock(pin_mutex);
    pinned[p] = n;
  });
  m.def("unpin", [](uintptr_t p) {
    std::lock_guard<std::mutex> lock(pin_mutex);
    return pinned.erase(p) > 0;
  });
}
