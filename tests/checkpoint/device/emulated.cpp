// A device for PyTorch that behaves as a GPU does where it matters to whoever copies a state from it:
//
// - what is asked of it happens later, in the order of a stream, and streams do not wait for each other by themselves;
// - its memory cannot be touched by the host: an access through the pointer of a tensor ends the process;
// - a copy between it and the host comes back at once if the host's memory is pinned and it may, else when it is done;
// - memory that is freed is gone as soon as the stream that it was made on comes so far, whoever else still reads it.
//
// What a stream does is done by a thread of its own. Operations without a kernel here are the CPU's, on copies.

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/_reshape_alias_cpu_dispatch.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/view_cpu_dispatch.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

namespace {

constexpr auto DEVICE = c10::DeviceType::PrivateUse1;
constexpr int DEVICES = 2;

class Queue {
 public:
  Queue() { std::thread([this] { work(); }).detach(); }

  // Returns the number of the job, to wait for it.
  int64_t add(std::function<void()> job) {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    changed_.notify_all();
    return ++added_;
  }

  bool is_done(int64_t number) {
    const std::lock_guard lock(mutex_);
    return done_ >= number;
  }

  void wait(int64_t number) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= number; });
  }

  int64_t latest() {
    const std::lock_guard lock(mutex_);
    return added_;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !jobs_.empty(); });
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
      ++done_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  int64_t added_ = 0, done_ = 0;
};

// Never destroyed: threads outlive the end of the program's main function.
struct Streams {
  std::mutex mutex;
  std::map<std::pair<int, int64_t>, Queue*> queues;
  int64_t next = 1;

  Queue& at(int device, int64_t id) {
    const std::lock_guard lock(mutex);
    auto& queue = queues[{device, id}];
    if (queue == nullptr) queue = new Queue();
    return *queue;
  }
};

Streams& streams() {
  static auto* all = new Streams();
  return *all;
}

thread_local int current_device = 0;
thread_local int64_t current_streams[DEVICES] = {};

Queue& current_queue(int device) { return streams().at(device, current_streams[device]); }

c10::Stream stream_of(int device, int64_t id) {
  return c10::Stream(c10::Stream::UNSAFE, {DEVICE, static_cast<c10::DeviceIndex>(device)}, id);
}

Queue& queue_of(const c10::Stream& stream) { return streams().at(stream.device_index(), stream.id()); }

// Memory of the device: mapped twice, once where nobody may touch it and once for the device itself.
struct Block {
  size_t size;
  char* inside;
};

std::mutex blocks_mutex;
std::map<char*, Block>& blocks() {
  static auto* all = new std::map<char*, Block>();
  return *all;
}

std::set<std::pair<char*, char*>>& pinned() {
  static auto* all = new std::set<std::pair<char*, char*>>();
  return *all;
}

char* inside(const void* pointer) {
  const std::lock_guard lock(blocks_mutex);
  auto* at = static_cast<char*>(const_cast<void*>(pointer));
  auto found = blocks().upper_bound(at);
  TORCH_CHECK(found != blocks().begin(), "no memory of the device");
  --found;
  TORCH_CHECK(at <= found->first + found->second.size, "no memory of the device");
  return found->second.inside + (at - found->first);
}

struct Freed {
  char* pointer;
  int device;
  int64_t stream;
};

void free_block(void* context) {
  std::unique_ptr<Freed> freed(static_cast<Freed*>(context));
  streams().at(freed->device, freed->stream).add([pointer = freed->pointer] {
    const std::lock_guard lock(blocks_mutex);
    const auto block = blocks().at(pointer);
    munmap(pointer, block.size);
    munmap(block.inside, block.size);
    blocks().erase(pointer);
  });
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    const c10::Device device(DEVICE, static_cast<c10::DeviceIndex>(current_device));
    if (size == 0) return {nullptr, nullptr, &free_block, device};
    const size_t page = sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    const int file = memfd_create("emulated device", 0);
    TORCH_CHECK(file >= 0 && ftruncate(file, static_cast<off_t>(whole)) == 0, "no memory for the device");
    auto* outside = static_cast<char*>(mmap(nullptr, whole, PROT_NONE, MAP_SHARED, file, 0));
    auto* within = static_cast<char*>(mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    close(file);
    TORCH_CHECK(outside != MAP_FAILED && within != MAP_FAILED, "no memory for the device");
    const std::lock_guard lock(blocks_mutex);
    blocks()[outside] = {whole, within};
    auto* freed = new Freed{outside, current_device, current_streams[current_device]};
    return {outside, freed, &free_block, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t size) const override {
    auto& queue = current_queue(current_device);
    queue.wait(queue.add([=, to = inside(to), from = inside(from)] { std::memcpy(to, from, size); }));
  }
};

void free_pinned(void* context) {
  std::unique_ptr<std::pair<char*, char*>> range(static_cast<std::pair<char*, char*>*>(context));
  const std::lock_guard lock(blocks_mutex);
  pinned().erase(*range);
  std::free(range->first);
}

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* memory = nullptr;
    TORCH_CHECK(posix_memalign(&memory, 4096, std::max<size_t>(size, 1)) == 0, "no memory");
    auto* range = new std::pair<char*, char*>(static_cast<char*>(memory), static_cast<char*>(memory) + size);
    const std::lock_guard lock(blocks_mutex);
    pinned().insert(*range);
    return {memory, range, &free_pinned, c10::DeviceType::CPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
};

bool is_pinned(const void* pointer) {
  const auto* at = static_cast<const char*>(pointer);
  const std::lock_guard lock(blocks_mutex);
  for (const auto& [begin, end] : pinned())
    if (begin <= at && at < end) return true;
  return false;
}

DeviceAllocator device_allocator;
PinnedAllocator pinned_allocator;
REGISTER_ALLOCATOR(DEVICE, &device_allocator);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  c10::DeviceIndex getCurrentDevice() const override { return static_cast<c10::DeviceIndex>(current_device); }
  void setCurrentDevice(c10::DeviceIndex device) const override { current_device = device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return static_cast<c10::DeviceIndex>(std::exchange(current_device, device));
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override { return exchangeDevice(device); }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    const c10::DeviceGuard guard(storage.device());
    auto data = device_allocator.allocate(size);
    const auto kept = std::min(size, storage.nbytes());
    if (kept > 0) device_allocator.copy_data(data.get(), storage.data(), kept);
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};

struct Event {
  Queue* queue;
  int64_t number;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return DEVICE; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return {DEVICE, static_cast<c10::DeviceIndex>(std::exchange(current_device, std::max<int>(device.index(), 0)))};
  }
  c10::Device getDevice() const override { return {DEVICE, static_cast<c10::DeviceIndex>(current_device)}; }
  void setDevice(c10::Device device) const override { exchangeDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { exchangeDevice(device); }
  c10::Stream getStream(c10::Device device) const override {
    const int index = device.index() < 0 ? current_device : device.index();
    return stream_of(index, current_streams[index]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream_of(device.index(), 0); }
  c10::Stream getNewStream(c10::Device device, int) const override {
    const int index = device.index() < 0 ? current_device : device.index();
    const std::lock_guard lock(streams().mutex);
    return stream_of(index, streams().next++);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return getNewStream(device, 0); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const auto index = stream.device_index();
    return stream_of(index, std::exchange(current_streams[index], stream.id()));
  }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    auto& queue = queue_of(stream);
    destroyEvent(*event, 0);
    *event = new Event{&queue, queue.latest()};
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event == nullptr) return;
    queue_of(stream).add([copy = *static_cast<Event*>(event)] { copy.queue->wait(copy.number); });
  }
  bool queryEvent(void* event) const override {
    auto* known = static_cast<Event*>(event);
    return known == nullptr || known->queue->is_done(known->number);
  }
  void synchronizeEvent(void* event) const override {
    if (auto* known = static_cast<Event*>(event)) known->queue->wait(known->number);
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  bool queryStream(const c10::Stream& stream) const override {
    return queue_of(stream).is_done(queue_of(stream).latest());
  }
  void synchronizeStream(const c10::Stream& stream) const override { queue_of(stream).wait(queue_of(stream).latest()); }
  void synchronizeDevice(const c10::DeviceIndex device) const override {
    std::vector<Queue*> all;
    {
      const std::lock_guard lock(streams().mutex);
      for (auto& [key, queue] : streams().queues)
        if (key.first == device) all.push_back(queue);
    }
    for (auto* queue : all) queue->wait(queue->latest());
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// Bytes that were copied from or to memory of the host that is not pinned.
std::atomic<int64_t> pageable = 0;

// The same memory as a tensor of the CPU, for the device's own threads.
at::Tensor host_view(const at::Tensor& tensor) {
  if (!tensor.is_privateuseone()) return tensor.detach();
  const auto options = tensor.options().device(at::kCPU).requires_grad(false);
  if (tensor.numel() == 0) return at::empty(tensor.sizes(), options);
  auto made = at::from_blob(inside(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
  made._set_conj(tensor.is_conj());
  made._set_neg(tensor.is_neg());
  return made;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const at::NoGradGuard no_grad;
  const auto device = to.is_privateuseone() ? to.device() : from.device();
  auto& queue = current_queue(device.index());
  const bool both = from.is_privateuseone() && to.is_privateuseone();
  const auto& host = from.is_privateuseone() ? to : from;
  const bool across = both && from.device() != to.device();
  auto& other = current_queue(from.is_privateuseone() ? from.device().index() : device.index());
  if (across) other.wait(other.latest());
  const bool direct = both || is_pinned(host.const_data_ptr());
  const bool later = !across && direct && (both || non_blocking);
  if (!direct) pageable += static_cast<int64_t>(host.nbytes());
  // Addresses only: whoever frees a tensor that another stream still reads finds out.
  const auto number = queue.add([source = host_view(from), target = host_view(to)] {
    const at::NoGradGuard no_grad;
    target.copy_(source);
  });
  if (!later) queue.wait(number);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  const c10::DeviceGuard guard(to.device());
  at::native::resize_(to, from.sizes());
  return copy_from(from, to, false);
}

c10::Device chosen(std::optional<at::Device> device) {
  return device.value_or(c10::Device(DEVICE, static_cast<c10::DeviceIndex>(current_device)));
}

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(chosen(device));
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &device_allocator,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype),
                                   format);
}

at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(chosen(device));
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                                           &device_allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

const at::Tensor& resize(const at::Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(self.device());
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(size), format);
}

at::Tensor& fill(at::Tensor& self, const at::Scalar& value) {
  current_queue(self.device().index()).add([target = host_view(self), value] {
    const at::NoGradGuard no_grad;
    target.fill_(value);
  });
  return self;
}

at::Tensor& set_source(at::Tensor& self, at::Storage source, c10::SymInt offset, c10::SymIntArrayRef size,
                       c10::SymIntArrayRef stride) {
  return at::cpu::set_(self, source, offset.guard_int(__FILE__, __LINE__), C10_AS_INTARRAYREF_SLOW(size),
                       C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor as_strided(const at::Tensor& self, at::IntArrayRef size, at::IntArrayRef stride,
                      std::optional<int64_t> offset) {
  return at::cpu::as_strided(self, size, stride, offset);
}

at::Scalar local_scalar(const at::Tensor& self) {
  const auto host = at::empty(self.sizes(), self.options().device(at::kCPU));
  copy_from(self, host, false);
  return host.item();
}

// What the current stream of the device does next is to let so many seconds go by.
void nap(int64_t device, double seconds) {
  current_queue(static_cast<int>(device)).add([seconds] {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  });
}

void register_hooks() { at::RegisterPrivateUse1HooksInterface(new Hooks()); }

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) { at::native::cpu_fallback(op, stack); }

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("_reshape_alias", at::cpu::_reshape_alias);
  m.impl("as_strided", as_strided);
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("fill_.Scalar", fill);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage_storage_offset", set_source);
  m.impl("view", [](const at::Tensor& self, at::IntArrayRef size) { return at::cpu::view(self, size); });
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY(emulated, m) {
  m.def("nap(int device, float seconds) -> ()", nap);
  m.def("pageable() -> int", [] { return pageable.load(); });
  m.def("register() -> ()", &register_hooks);
}
