#include "memory.hpp"

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace explainable {
namespace {

constexpr std::uint64_t kGibibyte = std::uint64_t{1} << 30;

}  // namespace

std::optional<MemoryBound> bound_memory(std::optional<int> gibibytes) {
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);
  if (!gibibytes && (pages <= 0 || size <= 0)) return std::nullopt;
  const std::uint64_t machine = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size);
  std::uint64_t bytes = gibibytes ? static_cast<std::uint64_t>(*gibibytes) * kGibibyte : machine / 2;
  rlimit limit{};
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return std::nullopt;
  const bool of_user = limit.rlim_cur != RLIM_INFINITY && static_cast<std::uint64_t>(limit.rlim_cur) < bytes;
  if (of_user) bytes = static_cast<std::uint64_t>(limit.rlim_cur);
  limit.rlim_cur = static_cast<rlim_t>(bytes);
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return std::nullopt;
  return MemoryBound{bytes, of_user};
#else
  static_cast<void>(gibibytes);
  return std::nullopt;
#endif
}

std::string explain_bound(const std::string& error, const std::optional<MemoryBound>& bound) {
  const bool of_memory = error.find("bad_alloc") != std::string::npos || error.find("allocate") != std::string::npos ||
                         error.find("enough memory") != std::string::npos;
  if (!bound || !of_memory) return "";
  const std::uint64_t tenths = bound->bytes * 10 / kGibibyte;
  return " The program may take " + std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) +
         (bound->of_user ? " GiB, by a limit of your own; raise `ulimit -d`" : " GiB; --memory GIB gives it more") +
         ", for an artifact whose maker you trust.";
}

}  // namespace explainable
