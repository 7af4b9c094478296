// Convolutions of oneDNN as foreign functions of XLA on CPU: the value, and the gradients of the input and of the kernel.
//
// Threads: each part of the batch is one task of XLA's own pool, in which oneDNN computes on one thread. There is no
// second pool, however many devices run at once. Parts depend on shapes alone, and partial sums of the kernel's gradient
// are added in their order, so that the bits do not depend on who computed what, nor on the number of threads.

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using dnnl::memory;
using Dims = memory::dims;
using Sizes = ffi::Span<const int64_t>;

enum Kind { kValue, kInput, kKernel };

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// oneDNN on the calling thread alone, for as long as this lives.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

// Aligned memory that is kept for the next call: fresh pages cost as much as a small convolution.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_((bytes + 4095) / 4096 * 4096) {
    std::lock_guard<std::mutex> lock(Lock());
    auto found = Free().find(bytes_);
    if (found == Free().end()) {
      data_ = bytes_ ? std::aligned_alloc(4096, bytes_) : nullptr;
    } else {
      data_ = found->second;
      Free().erase(found);
    }
  }
  ~Buffer() {
    if (!data_) return;
    std::lock_guard<std::mutex> lock(Lock());
    Free().emplace(bytes_, data_);
  }
  Buffer(const Buffer&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  static std::mutex& Lock() {
    static std::mutex* lock = new std::mutex;
    return *lock;
  }
  static std::multimap<size_t, void*>& Free() {
    static auto* free = new std::multimap<size_t, void*>;
    return *free;
  }
  size_t bytes_;
  void* data_ = nullptr;
};

// Computes task(0) ... task(count - 1), by the caller and by those threads of the pool that are free.
void InParts(ffi::ThreadPool pool, int64_t count, const std::function<void(int64_t)>& task) {
  struct Work {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::string error;
    std::mutex lock;
    std::condition_variable all_done;
  };
  auto work = std::make_shared<Work>();
  // A helper that comes late finds nothing left, and does not touch the task, which is then gone.
  auto help = [work, count, &task] {
    for (int64_t i; (i = work->next++) < count;) {
      std::string error;
      try {
        OneThread alone;
        task(i);
      } catch (const std::exception& exception) {
        error = exception.what();
      }
      std::lock_guard<std::mutex> lock(work->lock);
      if (!error.empty()) work->error = error;
      if (++work->done == count) work->all_done.notify_all();
    }
  };
  int64_t helpers = std::min(count, std::max<int64_t>(pool.num_threads(), 1)) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([help] { help(); });
  help();
  std::unique_lock<std::mutex> lock(work->lock);
  work->all_done.wait(lock, [&] { return work->done == count; });
  if (!work->error.empty()) throw std::runtime_error(work->error);
}

// A convolution as XLA gives it; spatial sizes in the order of the axes.
struct Problem {
  Dims source, target, kernel;  // [n, c, *space], [n, o, *space], [(g,) o/g, i/g, *window]
  Dims stride, dilation, low, high;
  bool grouped;
  memory::data_type type, kernel_type;  // the kernel's gradient is float32 always

  memory::desc Rows(Dims dims, int64_t images) const {
    using tag = memory::format_tag;
    dims[0] = images;
    static const tag tags[] = {tag::nwc, tag::nhwc, tag::ndhwc};
    return memory::desc(dims, type, tags[stride.size() - 1]);
  }
  memory::desc Kernel() const {
    using tag = memory::format_tag;
    static const tag plain[] = {tag::wio, tag::hwio, tag::dhwio}, groups[] = {tag::wigo, tag::hwigo, tag::dhwigo};
    return memory::desc(kernel, kernel_type, (grouped ? groups : plain)[stride.size() - 1]);
  }
  bool patches;  // whether to make the kernel's gradient from patches, where that is possible
  bool ByPatches() const { return patches && !grouped && type == memory::data_type::f32; }
  // Whether the window is one cell that sees every position: rows of x times one matrix.
  bool IsProduct() const {
    auto all = [](const Dims& values, size_t from, int64_t value) {
      return std::all_of(values.begin() + from, values.end(), [&](int64_t v) { return v == value; });
    };
    return !grouped && type == memory::data_type::f32 && all(kernel, 2, 1) && all(stride, 0, 1) && all(low, 0, 0) &&
           all(high, 0, 0);
  }
  std::vector<int64_t> Key(Kind kind, int64_t images, int64_t least) const {
    std::vector<int64_t> key{kind, images, least, int64_t(type), grouped};
    for (const Dims* dims : {&source, &target, &kernel, &stride, &dilation, &low, &high}) {
      key.insert(key.end(), dims->begin() + (dims == &source || dims == &target), dims->end());
    }
    return key;
  }
};

// What oneDNN compiled for one kind of derivative, of a part of so many images.
struct Program {
  dnnl::primitive primitive;
  memory::desc kernel;  // in the order that oneDNN likes; a gradient in float32
  size_t scratch;
};

Program Compile(const Problem& p, Kind kind, int64_t images, const memory::desc& kernel) {
  auto source = p.Rows(p.source, images), target = p.Rows(p.target, images);
  memory::desc any(p.kernel, p.type, memory::format_tag::any);
  dnnl::primitive_attr user;
  user.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto direct = dnnl::algorithm::convolution_direct;
  dnnl::convolution_forward::primitive_desc forward(Engine(), dnnl::prop_kind::forward_training, direct, source,
                                                    kind == kValue ? kernel : any, target, p.stride, p.dilation, p.low,
                                                    p.high, user);
  if (kind == kValue) {
    return {dnnl::convolution_forward(forward), forward.weights_desc(), forward.scratchpad_desc().get_size()};
  }
  if (kind == kInput) {
    dnnl::convolution_backward_data::primitive_desc back(Engine(), direct, source, kernel, target, p.stride,
                                                         p.dilation, p.low, p.high, forward, user);
    return {dnnl::convolution_backward_data(back), back.weights_desc(), back.scratchpad_desc().get_size()};
  }
  dnnl::convolution_backward_weights::primitive_desc back(Engine(), direct, source, kernel, target, p.stride,
                                                          p.dilation, p.low, p.high, forward, user);
  return {dnnl::convolution_backward_weights(back), back.diff_weights_desc(), back.scratchpad_desc().get_size()};
}

struct Parts {
  int64_t images, count;
  int64_t begin(int64_t part) const { return images * part / count; }
  int64_t size(int64_t part) const { return begin(part + 1) - begin(part); }
  int64_t least() const { return images / count; }
};

// Compiled once for each shape, which takes milliseconds. All parts have the kernel in the order of the smallest.
const Program& Compiled(const Problem& problem, Kind kind, Parts parts, int64_t images) {
  static auto* lock = new std::recursive_mutex;
  static auto* programs = new std::map<std::vector<int64_t>, std::unique_ptr<Program>>;
  std::lock_guard<std::recursive_mutex> guard(*lock);
  auto& program = (*programs)[problem.Key(kind, images, parts.least())];
  if (!program) {
    OneThread alone;
    const bool first = images == parts.least();
    const memory::desc kernel = first ? memory::desc(problem.kernel, problem.kernel_type, memory::format_tag::any)
                                      : Compiled(problem, kind, parts, parts.least()).kernel;
    program = std::make_unique<Program>(Compile(problem, kind, images, kernel));
  }
  return *program;
}

constexpr int64_t kReorderFloats = 1 << 16;  // from which on a part of a kernel is worth a task of its own

// A kernel in another order, some of its output channels (those of whole blocks) at a time.
void Reorder(ffi::ThreadPool pool, const memory::desc& from, void* source, const memory::desc& to, void* target) {
  const Dims dims = from.get_dims(), blocks = to.get_inner_blks(), axes = to.get_inner_idxs();
  const Dims other_blocks = from.get_inner_blks(), other_axes = from.get_inner_idxs();
  int64_t block = 1, other = 1;
  for (size_t i = 0; i < blocks.size(); ++i) block *= axes[i] ? 1 : blocks[i];
  for (size_t i = 0; i < other_blocks.size(); ++i) other *= other_axes[i] ? 1 : other_blocks[i];
  block = std::max(block, other);
  const int64_t count = (dims[0] + block - 1) / block;
  int64_t size = 1;
  for (int64_t d : dims) size *= d;
  const Parts parts{count, std::clamp<int64_t>(size / kReorderFloats, 1, count)};
  InParts(pool, parts.count, [&](int64_t part) {
    Dims begin(dims.size(), 0), some = dims;
    begin[0] = parts.begin(part) * block;
    some[0] = std::min(dims[0], parts.begin(part + 1) * block) - begin[0];
    dnnl::stream stream(Engine());
    memory in(from.submemory_desc(some, begin), Engine(), source), out(to.submemory_desc(some, begin), Engine(), target);
    dnnl::reorder(in, out).execute(stream, in, out);
    stream.wait();
  });
}

struct Arrays {
  char *source, *target, *kernel;
};

void RunPart(const Problem& p, Kind kind, Parts parts, int64_t part, Arrays at) {
  const int64_t images = parts.size(part);
  const Program& program = Compiled(p, kind, parts, images);
  auto source = p.Rows(p.source, images), target = p.Rows(p.target, images);
  const size_t each_source = p.Rows(p.source, 1).get_size(), each_target = p.Rows(p.target, 1).get_size();
  Buffer scratch(program.scratch);
  dnnl::stream stream(Engine());
  memory x(source, Engine(), at.source + parts.begin(part) * each_source);
  memory y(target, Engine(), at.target + parts.begin(part) * each_target);
  memory k(program.kernel, Engine(), at.kernel);
  memory s({{int64_t(program.scratch)}, memory::data_type::u8, memory::format_tag::a}, Engine(), scratch.data());
  const bool to_source = kind == kInput, to_kernel = kind == kKernel;
  program.primitive.execute(stream, {{to_source ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, x},
                                     {to_kernel ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, k},
                                     {kind == kValue ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, y},
                                     {DNNL_ARG_SCRATCHPAD, s}});
  stream.wait();
}

constexpr int64_t kPatchFloats = 1 << 16;  // of patches at once: what the second-level cache holds

// What the window sees at the positions of one row of outputs: [positions, taps, channels].
void See(const Problem& p, const float* x, int64_t row, float* seen) {
  const int64_t last = p.stride.size() - 1, channels = p.source[1], width = p.source[2 + last];
  const int64_t window = p.kernel[2 + last], apart = p.dilation[last] + 1;
  int64_t lines = 1;
  for (int64_t axis = 0; axis < last; ++axis) lines *= p.kernel[2 + axis];
  for (int64_t line = 0; line < lines; ++line) {
    int64_t position = row, tap = line, offset = 0, scale = 1;
    bool inside = true;
    for (int64_t axis = last - 1; axis >= 0; --axis) {
      const int64_t size = p.source[2 + axis], out = p.target[2 + axis], taps = p.kernel[2 + axis];
      const int64_t cell = position % out * p.stride[axis] + tap % taps * (p.dilation[axis] + 1) - p.low[axis];
      inside = inside && 0 <= cell && cell < size;
      offset += cell * scale;
      position /= out, tap /= taps, scale *= size;
    }
    const float* from = x + (offset + position * scale) * width * channels;
    for (int64_t q = 0; q < p.target[2 + last]; ++q) {
      float* to = seen + (q * lines + line) * window * channels;
      const int64_t first = q * p.stride[last] - p.low[last];
      if (inside && apart == 1 && 0 <= first && first + window <= width) {
        std::memcpy(to, from + first * channels, window * channels * sizeof(float));
        continue;
      }
      for (int64_t j = 0; j < window; ++j, to += channels) {
        const int64_t cell = first + j * apart;
        if (inside && 0 <= cell && cell < width) {
          std::memcpy(to, from + cell * channels, channels * sizeof(float));
        } else {
          std::memset(to, 0, channels * sizeof(float));
        }
      }
    }
  }
}

// The gradient of the kernel as products of patches, some rows of outputs at a time: [taps * channels, o].
void SumPatches(const Problem& p, Parts parts, int64_t part, Arrays at, float* sum) {
  const int64_t last = p.stride.size() - 1, out = p.target[2 + last], features = p.target[1];
  int64_t rows = 1, terms = p.source[1];
  for (int64_t axis = 0; axis < last; ++axis) rows *= p.target[2 + axis];
  for (int64_t axis = 0; axis <= last; ++axis) terms *= p.kernel[2 + axis];
  const int64_t begin = parts.begin(part) * rows, end = parts.begin(part + 1) * rows;
  const int64_t most = std::max<int64_t>(1, kPatchFloats / (out * terms));
  Buffer seen(most * out * terms * sizeof(float));
  auto* patches = reinterpret_cast<float*>(seen.data());
  const auto* target = reinterpret_cast<const float*>(at.target);
  for (int64_t row = begin; row < end; row += most) {
    const int64_t count = std::min(most, end - row);
    for (int64_t i = 0; i < count; ++i) {
      See(p, reinterpret_cast<const float*>(at.source), row + i, patches + i * out * terms);
    }
    const auto status = dnnl_sgemm('T', 'N', terms, features, count * out, 1, patches, terms,
                                   target + row * out * features, features, row > begin, sum, features);
    if (status != dnnl_success) throw std::runtime_error("matrix product of patches");
  }
}

void RunKernel(const Problem& p, ffi::ThreadPool pool, Parts parts, Arrays at) {
  const bool by_patches = p.ByPatches();
  const memory::desc kernel = by_patches ? p.Kernel() : Compiled(p, kKernel, parts, parts.least()).kernel;
  const size_t each = kernel.get_size();
  Buffer sums(each * parts.count);
  InParts(pool, parts.count, [&](int64_t i) {
    char* sum = sums.data() + i * each;
    if (by_patches) {
      SumPatches(p, parts, i, at, reinterpret_cast<float*>(sum));
    } else {
      RunPart(p, kKernel, parts, i, {at.source, at.target, sum});
    }
  });
  auto* total = reinterpret_cast<float*>(sums.data());
  const int64_t length = each / sizeof(float), slices = std::min<int64_t>(parts.count, 1 + length / 65536);
  InParts(pool, parts.count > 1 ? slices : 0, [&](int64_t slice) {
    const int64_t begin = length * slice / slices, end = length * (slice + 1) / slices;
    for (int64_t i = 1; i < parts.count; ++i) {
      for (int64_t j = begin; j < end; ++j) total[j] += total[i * length + j];
    }
  });
  if (by_patches) {
    std::memcpy(at.kernel, total, each);
  } else {
    Reorder(pool, kernel, total, p.Kernel(), at.kernel);
  }
}

// Windows of one cell: each part has its own block of the result, the longer side halved until there are enough.
void RunProduct(const Problem& p, Kind kind, ffi::ThreadPool pool, int64_t count, Arrays at) {
  const int64_t channels = p.source[1], features = p.target[1];
  int64_t positions = p.source[0];
  for (size_t axis = 2; axis < p.source.size(); ++axis) positions *= p.source[axis];
  auto* x = reinterpret_cast<float*>(at.source);
  auto* y = reinterpret_cast<float*>(at.target);
  auto* k = reinterpret_cast<float*>(at.kernel);
  struct Matrix {
    char order;
    float* data;
    int64_t across;  // floats from a row to the next, as it lies in memory
    float* at(int64_t row, int64_t column) const {
      return order == 'N' ? data + row * across + column : data + column * across + row;
    }
  };
  Matrix left{'N', x, channels}, right{'N', k, features}, out{'N', y, features};
  int64_t rows = positions, columns = features, terms = channels;
  if (kind == kInput) {
    left = {'N', y, features}, right = {'T', k, features}, out = {'N', x, channels};
    columns = channels, terms = features;
  } else if (kind == kKernel) {
    left = {'T', x, channels}, right = {'N', y, features}, out = {'N', k, features};
    rows = channels, terms = positions;
  }
  int64_t tall = 1, wide = 1;
  while (tall * wide < count) (rows / tall > columns / wide ? tall : wide) *= 2;
  InParts(pool, tall * wide, [&](int64_t part) {
    const Parts down{rows, tall}, along{columns, wide};
    const int64_t row = down.begin(part / wide), column = along.begin(part % wide);
    const auto status = dnnl_sgemm(left.order, right.order, down.size(part / wide), along.size(part % wide), terms, 1,
                                   left.at(row, 0), left.across, right.at(0, column), right.across, 0,
                                   out.at(row, column), out.across);
    if (status != dnnl_success) throw std::runtime_error("matrix product");
  });
}

void Run(const Problem& p, Kind kind, ffi::ThreadPool pool, int64_t count, Arrays at) {
  if (p.IsProduct()) return RunProduct(p, kind, pool, count, at);
  Parts parts{p.source[0], count};
  if (kind == kKernel) return RunKernel(p, pool, parts, at);
  const memory::desc liked = Compiled(p, kind, parts, parts.least()).kernel;
  Buffer kernel(liked.get_size());
  Reorder(pool, p.Kernel(), at.kernel, liked, kernel.data());
  at.kernel = kernel.data();
  InParts(pool, count, [&](int64_t i) { RunPart(p, kind, parts, i, at); });
}

Dims Channels(ffi::AnyBuffer::Dimensions shape) {  // [n, *space, c] to [n, c, *space]
  Dims dims{shape[0], shape[shape.size() - 1]};
  dims.insert(dims.end(), shape.begin() + 1, shape.end() - 1);
  return dims;
}

ffi::Error Convolve(Kind kind, ffi::ThreadPool pool, const ffi::AnyBuffer& x, const ffi::AnyBuffer& k,
                    const ffi::AnyBuffer& y, Sizes stride, Sizes dilation, Sizes low, Sizes high, int64_t groups,
                    int64_t parts, int64_t patches) {
  const auto window = k.dimensions();
  const size_t axes = window.size() - 2;
  Problem p;
  p.source = Channels(x.dimensions());
  p.target = Channels(y.dimensions());
  p.grouped = groups > 1;
  p.patches = patches;
  if (p.grouped) p.kernel.push_back(groups);
  p.kernel.push_back(window[axes + 1] / groups);
  p.kernel.push_back(window[axes]);
  p.kernel.insert(p.kernel.end(), window.begin(), window.begin() + axes);
  p.stride.assign(stride.begin(), stride.end());
  for (int64_t d : dilation) p.dilation.push_back(d - 1);  // oneDNN counts the cells between
  p.low.assign(low.begin(), low.end());
  p.high.assign(high.begin(), high.end());
  auto type = [](const ffi::AnyBuffer& buffer) {
    if (buffer.element_type() == ffi::BF16) return memory::data_type::bf16;
    if (buffer.element_type() == ffi::F32) return memory::data_type::f32;
    throw std::runtime_error("dtype is neither float32 nor bfloat16");
  };
  auto bytes = [](const ffi::AnyBuffer& buffer) { return static_cast<char*>(buffer.untyped_data()); };
  try {
    p.type = type(x);
    p.kernel_type = type(k);
    Run(p, kind, pool, parts, {bytes(x), bytes(y), bytes(k)});
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

using Any = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;

ffi::Error Value(ffi::ThreadPool pool, Any x, Any k, Result y, Sizes stride, Sizes dilation, Sizes low, Sizes high,
                 int64_t groups, int64_t parts, int64_t patches) {
  return Convolve(kValue, pool, x, k, *y, stride, dilation, low, high, groups, parts, patches);
}

ffi::Error Input(ffi::ThreadPool pool, Any y, Any k, Result x, Sizes stride, Sizes dilation, Sizes low, Sizes high,
                 int64_t groups, int64_t parts, int64_t patches) {
  return Convolve(kInput, pool, *x, k, y, stride, dilation, low, high, groups, parts, patches);
}

ffi::Error Kernel(ffi::ThreadPool pool, Any x, Any y, Result k, Sizes stride, Sizes dilation, Sizes low, Sizes high,
                  int64_t groups, int64_t parts, int64_t patches) {
  return Convolve(kKernel, pool, x, *k, y, stride, dilation, low, high, groups, parts, patches);
}

auto Signature() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Any>()
      .Arg<Any>()
      .Ret<Any>()
      .Attr<Sizes>("stride")
      .Attr<Sizes>("dilation")
      .Attr<Sizes>("low")
      .Attr<Sizes>("high")
      .Attr<int64_t>("groups")
      .Attr<int64_t>("parts")
      .Attr<int64_t>("patches");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_value, Value, Signature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_input, Input, Signature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_kernel, Kernel, Signature());

// What oneDNN finds in this CPU.
bool Has(dnnl::cpu_isa isa) { return (int(dnnl::get_effective_cpu_isa()) & int(isa)) == int(isa); }

extern "C" int has_bfloat16() { return Has(dnnl::cpu_isa::avx512_core_bf16); }
extern "C" int has_avx512() { return Has(dnnl::cpu_isa::avx512_core); }
