// Memory for the program `siege`: at most 2 GiB at once. Run it with ASAN_OPTIONS=alloc_dealloc_mismatch=0.
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

constexpr std::size_t kMostMemory = std::size_t{1} << 31;

// A graph may ask for any amount of memory. The address sanitizer ends the process where it has none, and a normal build
// throws, as this does.
void* allocate(std::size_t size, std::size_t alignment) {
  const std::size_t rounded = (size + alignment) / alignment * alignment;
  void* memory = size > kMostMemory ? nullptr : std::aligned_alloc(alignment, rounded);
  if (!memory) throw std::bad_alloc();
  return memory;
}

constexpr std::size_t kAlignment = alignof(std::max_align_t);

}  // namespace

void* operator new(std::size_t size) { return allocate(size, kAlignment); }
void* operator new[](std::size_t size) { return allocate(size, kAlignment); }
void* operator new(std::size_t size, std::align_val_t alignment) { return allocate(size, std::size_t(alignment)); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return allocate(size, std::size_t(alignment)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
