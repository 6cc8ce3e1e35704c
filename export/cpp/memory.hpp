// Bounds the memory of the program, which may open an artifact from a stranger.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace explainable {

// How much the process may allocate; of_user where a limit that it was started with (ulimit -d) is the lower one.
struct MemoryBound {
  std::uint64_t bytes;
  bool of_user;
};

// Lets this process allocate at most so many GiB, or half of the machine's memory: beyond that an allocation fails, and
// the system does not have to end another process. Returns the bound; nothing where the system has no such bound. A build
// with the address sanitizer, which reserves terabytes, has none.
std::optional<MemoryBound> bound_memory(std::optional<int> gibibytes);

// What to do about an error, where it tells of an allocation that failed; else empty.
std::string explain_bound(const std::string& error, const std::optional<MemoryBound>& bound);

}  // namespace explainable
