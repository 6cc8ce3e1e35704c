// explain PHOTO ARTIFACT: print the prediction, and write its class activation map over the photo.

#include <charconv>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench.hpp"
#include "explainer.hpp"
#include "npy.hpp"
#include "overlay.hpp"

namespace {

using namespace explainable;
using nlohmann::json;

constexpr const char* kUsage = R"(usage: explain PHOTO ARTIFACT [options]

  PHOTO           a JPEG or PNG
  ARTIFACT        a file that explainable_model.export wrote
  -o, --out FILE  write the photo under its heatmap, as PNG
  --npy FILE      write the heatmap: float32 (height, width), or (k, height, width) for an artifact of k classes
  --class N       explain class N instead of the predicted one
  --threads T     processors that one explanation uses; all by default
  --trusted       open the artifact even where it may run code: only for files whose maker you trust
  --bench         measure the time of an explanation
  --calls N       number of explanations that --bench measures; 100 by default
  --callers N     number of threads that call at the same time with --bench; 1 by default
  --json          print JSON
  -h, --help      print this
)";

constexpr std::size_t kTop = 5;
constexpr int kDark = 64;  // a quarter of 8 bits

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::vector<std::string> files;
  std::optional<std::string> out;
  std::optional<std::string> npy;
  std::int64_t class_idx = kPredicted;
  int threads = 0;
  bool trusted = false;
  bool bench = false;
  int calls = 100;
  int callers = 1;
  bool json = false;
  bool help = false;
};

template <typename Integer>
Integer parse_number(const std::string& option, const std::string& text, Integer least) {
  Integer value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    throw UsageError(option + " is " + text + "; expected a whole number of at least " + std::to_string(least) + ".");
  }
  return value;
}

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t n = 0; n < arguments.size(); ++n) {
    const std::string& option = arguments[n];
    const auto value = [&] {
      if (++n == arguments.size()) throw UsageError(option + " needs a value.");
      return arguments[n];
    };
    if (option == "-o" || option == "--out") options.out = value();
    else if (option == "--npy") options.npy = value();
    else if (option == "--class") options.class_idx = parse_number<std::int64_t>(option, value(), 0);
    else if (option == "--threads") options.threads = parse_number(option, value(), 1);
    else if (option == "--trusted") options.trusted = true;
    else if (option == "--bench") options.bench = true;
    else if (option == "--calls") options.calls = parse_number(option, value(), 1);
    else if (option == "--callers") options.callers = parse_number(option, value(), 1);
    else if (option == "--json") options.json = true;
    else if (option == "-h" || option == "--help") options.help = true;
    else if (option.size() > 1 && option[0] == '-') throw UsageError("There is no option " + option + ".");
    else options.files.push_back(option);
  }
  if (options.files.size() != 2 && !options.help) {
    throw UsageError("Got " + std::to_string(options.files.size()) + " file(s); expected a photo and an artifact.");
  }
  return options;
}

json write_name(const std::string& name) { return name.empty() ? json(nullptr) : json(name); }

json list_top_classes(const Explanation& explanation, const Metadata& metadata) {
  const std::vector<double>&odds = explanation.probabilities, &scores = explanation.scores;
  const std::vector<double>& ranking = odds.empty() ? scores : odds;
  std::vector<std::size_t> order(ranking.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return ranking[a] > ranking[b]; });
  order.resize(std::min(order.size(), kTop));
  json top = json::array();
  for (const std::size_t n : order) {
    const std::string name = metadata.class_name(static_cast<std::int64_t>(n));
    top.push_back({{"class_idx", n},
                   {"class_name", write_name(name)},
                   {"score", scores.at(scores.size() == 1 ? 0 : n)},
                   {"probability", odds.empty() ? json(nullptr) : json(odds[n])}});
  }
  return top;
}

// The point of the photo where the map is largest: the center of the largest cell.
json find_hottest(const Grid& heatmap, const Box& box) {
  const auto best = std::max_element(heatmap.values.begin(), heatmap.values.end()) - heatmap.values.begin();
  const double column = static_cast<double>(best % heatmap.width) + 0.5;
  const double row = static_cast<double>(best / heatmap.width) + 0.5;
  return {box.left + column * (box.right - box.left) / heatmap.width,
          box.top + row * (box.bottom - box.top) / heatmap.height};
}

json describe(const Explanation& explanation, const Metadata& metadata) {
  const Box& box = explanation.box;
  const std::string& kind = metadata.output_kind;
  const bool binary = kind == "binary" || kind == "binary_logits";
  const bool by_itself = (binary && metadata.classes == 1) || kind == "sigmoid" || kind == "sigmoid_logits";
  json record = {{"class_idx", explanation.class_idx},
          {"class_name", write_name(explanation.class_name)},
          {"output_kind", write_name(metadata.output_kind)},
          {"score", explanation.score},
          {"probability", explanation.probability ? json(*explanation.probability) : json(nullptr)},
          {"top", list_top_classes(explanation, metadata)},
          {"hottest", find_hottest(explanation.heatmap, box)},
          {"box", {box.left, box.top, box.right, box.bottom}}};
  if (by_itself && explanation.probability) record["present"] = *explanation.probability >= metadata.threshold;
  return record;
}

// Every explained class of an artifact made with top_k, the best first.
json describe_classes(const std::vector<Explanation>& explanations) {
  json classes = json::array();
  for (const Explanation& each : explanations) {
    classes.push_back({{"class_idx", each.class_idx},
                       {"class_name", write_name(each.class_name)},
                       {"hottest", find_hottest(each.heatmap, each.box)}});
  }
  return classes;
}

void write_heatmaps(const std::string& path, const std::vector<Explanation>& explanations, bool several) {
  const Grid& first = explanations.front().heatmap;
  std::vector<std::int64_t> shape = {first.height, first.width};
  if (several) shape.insert(shape.begin(), static_cast<std::int64_t>(explanations.size()));
  std::vector<float> values;
  for (const Explanation& each : explanations) {
    values.insert(values.end(), each.heatmap.values.begin(), each.heatmap.values.end());
  }
  write_npy(path, shape, values);
}

json describe(const Timing& timing) {
  return {{"calls", timing.calls},   {"callers", timing.callers}, {"first_ms", timing.first},
          {"p50_ms", timing.p50},    {"p90_ms", timing.p90},      {"p99_ms", timing.p99},
          {"cpu_ms", timing.cpu},    {"calls_per_second", timing.calls_per_second}};
}

// Whether a binary output says that its one class is absent.
bool is_absent(const json& answer) {
  const std::string kind = answer["output_kind"].is_null() ? "" : answer["output_kind"].get<std::string>();
  const bool binary = kind == "binary" || kind == "binary_logits";
  return binary && answer.contains("present") && !answer["present"].get<bool>();
}

void print_answer(const json& answer) {
  const json& name = answer["class_name"];
  std::cout << answer["photo"].get<std::string>() << ": " << (is_absent(answer) ? "no " : "")
            << (name.is_null() ? "class " + answer["class_idx"].dump() : name.get<std::string>());
  if (!answer["probability"].is_null()) {
    std::cout << ", " << std::round(answer["probability"].get<double>() * 1000) / 10 << "%";
  } else {
    std::cout << ", score " << answer["score"].get<double>();
  }
  std::cout << "\n";
  if (answer.contains("bench")) {
    const json& bench = answer["bench"];
    std::printf("%d calls by %d caller(s): p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, processor %.1f ms, %.1f per second; "
                "first %.1f ms\n",
                bench["calls"].get<int>(), bench["callers"].get<int>(), bench["p50_ms"].get<double>(),
                bench["p90_ms"].get<double>(), bench["p99_ms"].get<double>(), bench["cpu_ms"].get<double>(),
                bench["calls_per_second"].get<double>(), bench["first_ms"].get<double>());
  }
}

void run(const Options& options) {
  const Picture photo = read_picture(options.files[0]);
  if (photo.deep && *std::max_element(photo.rgb.begin(), photo.rgb.end()) < kDark) {
    std::cerr << "warning: " << options.files[0]
              << " uses less than a quarter of its 16 bits, so it is nearly black; convert it to 8 bits.\n";
  }
  const Explainer explainer(options.files[1], options.threads, options.trusted);
  const std::vector<Explanation> explanations = explainer.explain_top(photo, options.class_idx);
  const Explanation& explanation = explanations.front();
  json answer = describe(explanation, explainer.metadata());
  if (explainer.metadata().top_k) answer["explained"] = describe_classes(explanations);
  answer["photo"] = options.files[0];
  if (options.out) {
    const bool diverging = explainer.metadata().diverging;
    write_png(draw_overlay(photo, explanation.heatmap, explanation.box, diverging), *options.out);
    answer["overlay"] = *options.out;
  }
  if (options.npy) {
    write_heatmaps(*options.npy, explanations, explainer.metadata().top_k > 0);
    answer["heatmap"] = *options.npy;
  }
  if (options.bench) {
    answer["bench"] = describe(measure(explainer, photo, options.class_idx, options.calls, options.callers));
  }
  if (options.json) std::cout << answer.dump(-1, ' ', false, json::error_handler_t::replace) << "\n";
  else print_answer(answer);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse_options({argv + 1, argv + argc});
    if (options.help) std::cout << kUsage;
    else run(options);
    return 0;
  } catch (const UsageError& error) {
    std::cerr << "error: " << error.what() << "\n" << kUsage;
  } catch (const std::bad_alloc&) {
    std::cerr << "error: there is not enough memory.\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
  }
  return 2;
}
