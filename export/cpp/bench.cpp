#include "bench.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <exception>
#include <thread>
#include <vector>

namespace explainable {
namespace {

using Clock = std::chrono::steady_clock;

double measure_milliseconds(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double interpolate_quantile(const std::vector<double>& sorted, double share) {
  return sorted[std::min(static_cast<std::size_t>(share * static_cast<double>(sorted.size())), sorted.size() - 1)];
}

}  // namespace

Timing measure(const Explainer& explainer, const Picture& photo, std::int64_t class_idx, int calls, int callers) {
  const auto call = [&] {
    const auto start = Clock::now();
    if (explainer.metadata().has_boxes) explainer.detect(photo, class_idx);
    else explainer.explain(photo, class_idx);
    return measure_milliseconds(start);
  };
  Timing timing{calls, callers, call()};
  call();  // TorchScript specializes its graph in the first two calls

  std::vector<double> latencies(static_cast<std::size_t>(calls));
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(callers));
  std::atomic<std::size_t> next{0};
  const auto start = Clock::now();
  const std::clock_t cpu = std::clock();
  std::vector<std::jthread> threads;
  for (std::exception_ptr& failure : failures) {
    threads.emplace_back([&] {
      try {
        for (std::size_t n = next++; n < latencies.size(); n = next++) latencies[n] = call();
      } catch (...) {
        failure = std::current_exception();
      }
    });
  }
  threads.clear();  // joins them
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  timing.calls_per_second = calls * 1e3 / measure_milliseconds(start);
  timing.cpu = static_cast<double>(std::clock() - cpu) * 1e3 / CLOCKS_PER_SEC / calls;
  std::sort(latencies.begin(), latencies.end());
  timing.p50 = interpolate_quantile(latencies, 0.5);
  timing.p90 = interpolate_quantile(latencies, 0.9);
  timing.p99 = interpolate_quantile(latencies, 0.99);
  return timing;
}

}  // namespace explainable
