// explain PHOTO... ARTIFACT: print the predictions, and write their class activation maps over the photos.

#include <algorithm>
#include <charconv>
#include <iostream>

#include "boxes.hpp"
#include "classes.hpp"
#include "memory.hpp"
#include "npy.hpp"
#include "options.hpp"
#include "overlay.hpp"
#include "report.hpp"
#include "tasks.hpp"

namespace {

using namespace explainable;
using nlohmann::json;

constexpr int kFailed = 1;
constexpr int kMistake = 2;
constexpr int kDark = 64;  // a quarter of 8 bits

template <typename Answer>
void write_heatmaps(const std::string& path, const std::vector<Answer>& answers, bool several) {
  std::vector<std::int64_t> shape = {0, 0};
  if (!answers.empty()) shape = {answers.front().heatmap.height, answers.front().heatmap.width};
  if (several) shape.insert(shape.begin(), static_cast<std::int64_t>(answers.size()));
  std::vector<float> values;
  for (const Answer& each : answers) {
    values.insert(values.end(), each.heatmap.values.begin(), each.heatmap.values.end());
  }
  write_npy(path, shape, values);
}

// The rank of a box. Throws InputError where it is no rank of the detector's.
std::int64_t read_rank(const std::string& text, const Metadata& metadata) {
  std::int64_t rank = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rank);
  if (error == std::errc() && end == text.data() + text.size() && rank >= kPredicted && rank < metadata.classes) {
    return rank;
  }
  throw InputError("--box is " + text + "; expected the rank of a box, 0 to " + std::to_string(metadata.classes - 1) + ".");
}

// Leaves out the tasks that are done, or refuses to replace their files.
std::vector<Task> choose_tasks(std::vector<Task> tasks, const Options& options) {
  if (options.skip_existing) {
    std::erase_if(tasks, [](const Task& task) { return task.is_done(); });
    return tasks;
  }
  for (const Task& task : tasks) {
    for (const std::filesystem::path& file : {task.overlay, task.heatmap}) {
      std::error_code error;
      if (options.overwrite || file.empty() || !std::filesystem::exists(file, error)) continue;
      throw InputError(file.string() + " exists already; choose another folder with --out, go on with --skip-existing, "
                       "or replace it with --overwrite.");
    }
  }
  return tasks;
}

std::vector<Task> make_tasks(const Options& options) {
  if (options.dir) return plan_tasks(options.photos, *options.dir, options.heatmaps);
  std::vector<Task> tasks = plan_tasks(options.photos, "", false);
  if (options.picture) tasks.front().overlay = *options.picture;
  if (options.npy) tasks.front().heatmap = *options.npy;
  return tasks;
}

class Program {
 public:
  Program(const Options& options, std::optional<MemoryBound> bound)
      : options_(options), bound_(bound), explainer_(options.artifact, options.threads, options.trusted) {
    const Metadata& metadata = explainer_.metadata();
    if (options.wanted && metadata.has_boxes) {
      throw InputError("--class is of classifiers, and this artifact finds boxes; explain one of them with --box RANK.");
    }
    if (options.rank && !metadata.has_boxes) {
      throw InputError("--box is of detectors, and this artifact explains classes; name one with --class.");
    }
    if (options.wanted) class_idx_ = find_class(*options.wanted, metadata);
    if (options.rank) class_idx_ = read_rank(*options.rank, metadata);
  }

  // Returns the exit code.
  int run() {
    const std::vector<Task> planned = make_tasks(options_);
    const std::vector<Task> tasks = options_.dir ? choose_tasks(planned, options_) : planned;
    json answers = json::array(), errors = json::array();
    for (const Task& task : tasks) {
      const json record = explain(task);
      const bool failed = record.contains("error");
      (failed ? errors : answers).push_back(record);
      if (failed) std::cerr << "error: " << record["error"].get<std::string>() << std::endl;
      if (options_.report == Report::jsonl) std::cout << write_json(record) << std::endl;
      else if (options_.report == Report::text && !failed) print_answer(record);
    }
    const std::size_t skipped = planned.size() - tasks.size();
    const int code = errors.empty() ? 0 : kFailed;
    if (options_.report == Report::json) {
      std::cout << write_json({{"photos", answers}, {"errors", errors}, {"skipped", skipped}}) << "\n";
    } else if (options_.report == Report::text && skipped) {
      std::cout << skipped << " photo(s) with pictures skipped\n";
    }
    return code;
  }

 private:
  json explain(const Task& task) const {
    Picture photo;
    std::vector<Explanation> explanations;
    std::vector<Detection> detections;
    const Metadata& metadata = explainer_.metadata();
    try {
      photo = read_picture(task.photo);
      warn_of_darkness(task.photo, photo);
      if (metadata.has_boxes) detections = explainer_.detect(photo, class_idx_);
      else explanations = explainer_.explain_top(photo, class_idx_);
    } catch (const InputError& error) {
      return {{"photo", task.photo}, {"error", error.what() + explain_bound(error.what(), bound_)}};
    }
    json record = metadata.has_boxes ? describe(detections, explainer_.find_seen(photo), metadata)
                                     : describe(explanations, metadata);
    record["photo"] = task.photo;
    if (options_.bench) {
      record["bench"] = describe(measure(explainer_, photo, class_idx_, options_.calls, options_.callers));
    }
    if (metadata.has_boxes) {
      write(task, [&] { return draw_detections(photo, detections, metadata.diverging); }, detections, true, record);
    } else {
      const Explanation& best = explanations.front();
      const auto draw = [&] { return draw_overlay(photo, best.heatmap, best.box, metadata.diverging); };
      write(task, draw, explanations, metadata.top_k > 0, record);
    }
    return record;
  }

  template <typename Draw, typename Answer>
  void write(const Task& task, const Draw& draw, const std::vector<Answer>& answers, bool several, json& record) const {
    if (options_.dir) make_folder(task.overlay.parent_path());
    if (!task.overlay.empty()) {
      write_png(draw(), task.overlay);
      record["overlay"] = task.overlay.string();
    }
    if (!task.heatmap.empty()) {
      write_heatmaps(task.heatmap.string(), answers, several);
      record["heatmap"] = task.heatmap.string();
    }
  }

  static void warn_of_darkness(const std::string& name, const Picture& photo) {
    if (!photo.deep || *std::max_element(photo.rgb.begin(), photo.rgb.end()) >= kDark) return;
    std::cerr << "warning: " << name << " uses less than a quarter of its 16 bits, so it is nearly black; convert it to "
              << "8 bits.\n";
  }

  const Options& options_;
  std::optional<MemoryBound> bound_;
  Explainer explainer_;
  std::int64_t class_idx_ = kPredicted;
};

}  // namespace

int main(int argc, char** argv) {
  std::optional<MemoryBound> bound;
  try {
    const Options options = parse_options({argv + 1, argv + argc});
    if (options.help) {
      std::cout << kUsage;
      return 0;
    }
    bound = bound_memory(options.memory ? std::optional(options.memory) : std::nullopt);
    return Program(options, bound).run();
  } catch (const UsageError& error) {
    std::cerr << "error: " << error.what() << " explain --help lists the options.\n";
  } catch (const std::bad_alloc&) {
    const std::string text = "there is not enough memory.";
    std::cerr << "error: " << text << explain_bound(text, bound) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << explain_bound(error.what(), bound) << "\n";
  }
  return kMistake;
}
