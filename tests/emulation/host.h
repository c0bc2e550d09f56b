// Stands for what CUDA builds in, so that g++ compiles the kernels of kernels/cuda and a test can run them.
//
// Blocks run one after the other. The threads of a block are fibers that go on in turn until each waits at a barrier or
// has ended. Blocks and threads take their turns in ascending order, in descending order, or in one of chance that is
// another every time: what a missing barrier leaves to chance comes out wrong in one of them. A barrier that some threads
// never reach, which CUDA leaves undefined, is reported as an error. Shared memory holds NaN when a block begins.

#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define HOST_EMULATION
#define __global__
#define __device__
#define __shared__ static __attribute__((section("shared_memory")))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(threads)

using std::min;

struct Dimensions {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

static Dimensions threadIdx, blockIdx, blockDim, gridDim;

// Where the linker puts what is shared.
extern "C" char __start_shared_memory[] __attribute__((weak)), __stop_shared_memory[] __attribute__((weak));

namespace emulation {

constexpr unsigned LANES = 32, MOST_THREADS = 1024, STACK = 1 << 17;
enum Order { ASCENDING, DESCENDING };  // a larger number is the seed of an order of chance
enum Waiting { NOTHING, WARP_BARRIER, BLOCK_BARRIER, ENDED };

struct Fragments {
  uint32_t a[4], b[2];
};
struct Fiber {
  ucontext_t context;
  jmp_buf place;
  bool begun = false;
  std::vector<char> stack;
  Waiting waiting;
  uint64_t exchanged;
  Fragments fragments;
};

static std::vector<Fiber> fibers(MOST_THREADS);
static ucontext_t scheduler;
static const char* failure;
static void* kernel;
static void (*run_kernel)(void*);

static jmp_buf scheduler_place;

static Fiber& own() { return fibers[threadIdx.x]; }

// Goes on with a fiber until it waits. swapcontext alone would do, and does for the sanitizers, which know it; it asks the
// system for its signals twice, so that a switch takes ten times as long.
__attribute__((noinline)) static void resume(Fiber& fiber) {
#ifdef __SANITIZE_ADDRESS__
  fiber.begun = true;
  swapcontext(&scheduler, &fiber.context);
#else
  if (_setjmp(scheduler_place)) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  setcontext(&fiber.context);
#endif
}

__attribute__((noinline)) static void wait(Waiting at) {
  Fiber& fiber = own();
  fiber.waiting = at;
#ifdef __SANITIZE_ADDRESS__
  swapcontext(&fiber.context, &scheduler);
#else
  if (!_setjmp(fiber.place)) _longjmp(scheduler_place, 1);
#endif
}

// A fiber runs one thread after the other.
static void start() {
  for (;;) {
    run_kernel(kernel);
    wait(ENDED);
  }
}

static void prepare(Fiber& fiber) {
  fiber.waiting = NOTHING;
  if (fiber.begun) return;
  fiber.stack.resize(STACK);
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = STACK;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, start, 0);
}

static bool all(unsigned first, unsigned last, Waiting state) {
  for (unsigned t = first; t < last; ++t)
    if (fibers[t].waiting != state) return false;
  return true;
}

static void release(unsigned first, unsigned last) {
  for (unsigned t = first; t < last; ++t) fibers[t].waiting = NOTHING;
}

static unsigned order;
static uint64_t state;

static unsigned chance() {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(state >> 33);
}

// Visits 0 ... count - 1 in the order of this launch; that of chance is a multiple of the number, modulo the next power
// of two.
template <class Visit>
static bool each(unsigned count, Visit visit) {
  if (order <= DESCENDING) {
    for (unsigned i = 0; i < count; ++i)
      if (!visit(order == ASCENDING ? i : count - 1 - i)) return false;
    return true;
  }
  uint64_t size = 1;
  while (size < count) size *= 2;
  const uint64_t factor = chance() | 1, first = chance();
  for (uint64_t k = 0; k < size; ++k) {
    const uint64_t i = (factor * k + first) % size;
    if (i < count && !visit((unsigned)i)) return false;
  }
  return true;
}

static bool run_block(unsigned threads) {
  if (__start_shared_memory) std::fill(__start_shared_memory, __stop_shared_memory, (char)0xff);
  for (unsigned t = 0; t < threads; ++t) prepare(fibers[t]);
  while (!all(0, threads, ENDED)) {
    bool moved = false;
    each(threads, [&](unsigned t) {
      if (fibers[t].waiting == NOTHING) {
        threadIdx = {t, 0, 0};
        resume(fibers[t]);
        moved = true;
      }
      return true;
    });
    for (unsigned w = 0; w < threads; w += LANES)
      if (w + LANES <= threads && all(w, w + LANES, WARP_BARRIER)) {
        release(w, w + LANES);
        moved = true;
      }
    if (all(0, threads, BLOCK_BARRIER)) {
      release(0, threads);
      moved = true;
    }
    if (!moved) {
      failure = "a barrier that some threads never reach";
      for (Fiber& fiber : fibers) fiber.begun = false;
      return false;
    }
  }
  return true;
}

// How a kernel is launched: on `blocks` blocks, of which only `count` that are `chosen` are run if there are any.
struct Launch {
  unsigned blocks, threads, order, count;
  const unsigned* chosen;
};

static bool run(const Launch& launch) {
  failure = nullptr;
  order = state = launch.order;
  gridDim = {launch.blocks, 1, 1};
  blockDim = {launch.threads, 1, 1};
  return each(launch.count ? launch.count : launch.blocks, [&](unsigned i) {
    blockIdx = {launch.count ? launch.chosen[i] : i, 0, 0};
    return run_block(launch.threads);
  });
}

template <class Value>
static std::string letter() {
  if (std::is_pointer<Value>::value)
    return "*" + letter<typename std::remove_cv<typename std::remove_pointer<Value>::type>::type>();
  if (std::is_same<Value, float>::value) return "f";
  if (std::is_same<Value, double>::value) return "d";
  if (std::is_same<Value, int>::value) return "i";
  if (std::is_same<Value, long long>::value) return "q";
  return std::is_same<Value, unsigned char>::value ? "B" : "?";
}
template <>
std::string letter<void>() {
  return "?";
}

template <class... Parameters>
static std::string signature(void (*)(Parameters...)) {
  std::string letters;
  using expand = int[];
  (void)expand{0, (letters += letter<Parameters>(), 0)...};
  return letters;
}

template <class... Parameters>
struct Call {
  void (*function)(Parameters...);
  void** arguments;
  template <std::size_t... I>
  void with(std::index_sequence<I...>) {
    function(*(std::remove_reference_t<Parameters>*)arguments[I]...);
  }
  static void run(void* call) { ((Call*)call)->with(std::index_sequence_for<Parameters...>{}); }
};

template <class... Parameters>
static const char* launch(void (*function)(Parameters...), const Launch* how, void** arguments) {
  Call<Parameters...> call{function, arguments};
  kernel = &call;
  run_kernel = Call<Parameters...>::run;
  return run(*how) ? nullptr : failure;
}

}  // namespace emulation

#define KERNEL_OF_THE_LIBRARY(name)                                                                      \
  extern "C" const char* launch_##name(const emulation::Launch* how, void** arguments) {                 \
    return emulation::launch(name, how, arguments);                                                      \
  }                                                                                                      \
  extern "C" const char* signature_##name() {                                                            \
    static const std::string letters = emulation::signature(name);                                       \
    return letters.c_str();                                                                              \
  }

static inline void __syncthreads() { emulation::wait(emulation::BLOCK_BARRIER); }

template <class Value>
static Value __shfl_xor_sync(unsigned, Value value, int lane) {
  emulation::Fiber& fiber = emulation::own();
  std::memcpy(&fiber.exchanged, &value, sizeof value);
  emulation::wait(emulation::WARP_BARRIER);
  std::memcpy(&value, &emulation::fibers[threadIdx.x ^ lane].exchanged, sizeof value);
  emulation::wait(emulation::WARP_BARRIER);
  return value;
}

static inline uint32_t __float_as_uint(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
static inline float __uint_as_float(uint32_t u) {
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}

// mma.m16n8k8 of TF32 (precision 1) and mma.m16n8k16 of BF16 (2), by the tables of fragments in the PTX manual: which
// lane's which register holds a(row, k) and b(k, column). What lies beyond a format's bits is not seen.
static inline void emulated_mma(int precision, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  emulation::Fiber& fiber = emulation::own();
  std::copy(a, a + 4, fiber.fragments.a);
  std::copy(b, b + 2, fiber.fragments.b);
  emulation::wait(emulation::WARP_BARRIER);
  const unsigned warp = threadIdx.x / 32 * 32, group = threadIdx.x % 32 / 4, inner = threadIdx.x % 4;
  const unsigned pack = precision == 1 ? 1 : 2, half_depth = 4 * pack;
  const auto number = [&](uint32_t held, unsigned k) {
    if (precision == 1) return __uint_as_float(held & 0xffffe000u);
    return __uint_as_float(k % 2 ? held & 0xffff0000u : held << 16);
  };
  for (unsigned e = 0; e < 4; ++e) {
    const unsigned row = group + e / 2 * 8, column = 2 * inner + e % 2;
    for (unsigned k = 0; k < 2 * half_depth; ++k) {
      const unsigned lane = k % half_depth / pack, far = k / half_depth;
      const emulation::Fragments& left = emulation::fibers[warp + row % 8 * 4 + lane].fragments;
      const emulation::Fragments& right = emulation::fibers[warp + column * 4 + lane].fragments;
      d[e] += number(left.a[row / 8 + 2 * far], k) * number(right.b[far], k);
    }
  }
  emulation::wait(emulation::WARP_BARRIER);
}
