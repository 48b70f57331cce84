// Part of programs that are built with the thread sanitizer (preset `threads`), in place of GCC's function of
// the same name: the OpenMP runtime is not instrumented, so the sanitizer does not see that a parallel region
// begins after what came before it and ends before what follows. Said here, once; races inside a region stay
// visible.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

namespace {

struct Region {
  void (*body)(void*);
  void* data;
  char begin = 0, end = 0;  // their addresses name the two events
};

void run(void* pointer) {
  auto* const region = static_cast<Region*>(pointer);
  __tsan_acquire(&region->begin);
  region->body(region->data);
  __tsan_release(&region->end);
}

}  // namespace

extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags) {
  using Function = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto library = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "GOMP_parallel"));
  Region region{body, data};
  __tsan_release(&region.begin);
  library(run, &region, threads, flags);
  __tsan_acquire(&region.end);
}
