#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <numeric>
#include <sstream>

namespace explainable {
namespace {

using nlohmann::json;

constexpr std::size_t kTop = 5;

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

json describe_photo(const Explanation& explanation, const Metadata& metadata) {
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

// Whether a binary output says that its one class is absent.
bool is_absent(const json& answer) {
  const std::string kind = answer["output_kind"].is_null() ? "" : answer["output_kind"].get<std::string>();
  const bool binary = kind == "binary" || kind == "binary_logits";
  return binary && answer.contains("present") && !answer["present"].get<bool>();
}

std::string write_class_name(const json& answer) {
  const json& name = answer["class_name"];
  return name.is_null() ? "class " + answer["class_idx"].dump() : name.get<std::string>();
}

// The explained class, and its probability or score.
std::string write_class(const json& answer) {
  std::ostringstream text;
  text << (is_absent(answer) ? "no " : "") << write_class_name(answer);
  if (!answer["probability"].is_null()) {
    text << ", " << std::round(answer["probability"].get<double>() * 1000) / 10 << "%";
  } else {
    text << ", score " << answer["score"].get<double>();
  }
  return text.str();
}

// All boxes: cup 94%, face 31%.
std::string write_boxes(const json& boxes) {
  std::ostringstream text;
  for (const json& box : boxes) {
    text << (text.tellp() > 0 ? ", " : "") << write_class_name(box) << " "
         << std::nearbyint(box["score"].get<double>() * 100) << "%";
  }
  return boxes.empty() ? "no box" : text.str();
}

}  // namespace

json describe(const std::vector<Explanation>& explanations, const Metadata& metadata) {
  json record = describe_photo(explanations.front(), metadata);
  if (metadata.top_k) record["explained"] = describe_classes(explanations);
  return record;
}

json describe(const std::vector<Detection>& detections, const Box& seen, const Metadata& metadata) {
  json boxes = json::array();
  for (const Detection& each : detections) {
    const Box& place = each.place;
    boxes.push_back({{"box", {place.left, place.top, place.right, place.bottom}},
                     {"class_idx", each.class_idx},
                     {"class_name", write_name(each.class_name)},
                     {"score", each.score},
                     {"hottest", find_hottest(each.heatmap, each.box)}});
  }
  return {{"task", "detection"},
          {"boxes", boxes},
          {"seen", {seen.left, seen.top, seen.right, seen.bottom}},
          {"method", metadata.method}};
}

json describe(const Timing& timing) {
  return {{"calls", timing.calls},   {"callers", timing.callers}, {"first_ms", timing.first},
          {"p50_ms", timing.p50},    {"p90_ms", timing.p90},      {"p99_ms", timing.p99},
          {"cpu_ms", timing.cpu},    {"calls_per_second", timing.calls_per_second}};
}

void print_answer(const json& answer) {
  std::cout << answer["photo"].get<std::string>() << ": "
            << (answer.contains("boxes") ? write_boxes(answer["boxes"]) : write_class(answer));
  if (answer.contains("overlay")) std::cout << " -> " << answer["overlay"].get<std::string>();
  std::cout << std::endl;  // as soon as the photo is explained
  if (answer.contains("bench")) {
    const json& bench = answer["bench"];
    std::printf("%d calls by %d caller(s): p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, processor %.1f ms, %.1f per second; "
                "first %.1f ms\n",
                bench["calls"].get<int>(), bench["callers"].get<int>(), bench["p50_ms"].get<double>(),
                bench["p90_ms"].get<double>(), bench["p99_ms"].get<double>(), bench["cpu_ms"].get<double>(),
                bench["calls_per_second"].get<double>(), bench["first_ms"].get<double>());
  }
}

std::string write_json(const json& record) { return record.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace explainable
