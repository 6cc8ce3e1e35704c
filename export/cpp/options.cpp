#include "options.hpp"

#include <charconv>
#include <filesystem>
#include <functional>
#include <map>

#include "classes.hpp"

namespace explainable {

const char* const kUsage = R"(usage: explain PHOTO... ARTIFACT [options]
       explain PHOTO... --artifact FILE [options]

  PHOTO           a JPEG or PNG, or a folder: its photos and those of its subfolders
  ARTIFACT        a file that explainable_model.export wrote
  -o FILE         write the photo under its heatmap, as PNG; for one photo
  --npy FILE      write the heatmap: float32 (height, width), or (k, height, width) for an artifact of k classes; for one
                  photo
  --out DIR       write STEM-overlay.png for each photo; the photos of a folder keep their tree
  --heatmaps      with --out: write STEM-heatmap.npy too
  --skip-existing with --out: leave out photos whose files are there
  --overwrite     with --out: replace files that are there
  --class N|NAME  explain that class instead of the predicted one
  --box RANK      of a detector: explain that box, 0 for the best, instead of the best ones
  --threads T     processors that one explanation uses; all by default
  --trusted       open the artifact even where it may run code: only for files whose maker you trust
  --memory GIB    memory that the program may take; half of the machine's by default
  --json          print JSON: "photos", "errors", "skipped"
  --jsonl         print a line of JSON as soon as a photo is explained
  --bench         measure the time of an explanation; for one photo
  --calls N       number of explanations that --bench measures; 100 by default
  --callers N     number of threads that call at the same time with --bench; 1 by default
  -h, --help      print this

A photo that cannot be read does not stop the others. The exit code is 0 for success, 1 where a photo failed, and 2 for a
mistake in the request.
)";

namespace {

int parse_count(const std::string& option, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 1) return value;
  throw UsageError(option + " is " + text + "; expected a whole number of at least 1.");
}

using Value = std::function<std::string()>;  // the next argument
using Action = std::function<void(Options&, const std::string& option, const Value& value)>;

Action set_text(std::optional<std::string> Options::*member) {
  return [member](Options& options, const std::string&, const Value& value) { options.*member = value(); };
}

Action set_count(int Options::*member) {
  return [member](Options& options, const std::string& option, const Value& value) {
    options.*member = parse_count(option, value());
  };
}

Action set_flag(bool Options::*member) {
  return [member](Options& options, const std::string&, const Value&) { options.*member = true; };
}

Action set_report(Report report) {
  return [report](Options& options, const std::string&, const Value&) { options.report = report; };
}

const std::map<std::string, Action>& list_options() {
  static const std::map<std::string, Action> table = {
      {"-o", set_text(&Options::picture)},
      {"--npy", set_text(&Options::npy)},
      {"--out", set_text(&Options::dir)},
      {"--heatmaps", set_flag(&Options::heatmaps)},
      {"--skip-existing", set_flag(&Options::skip_existing)},
      {"--overwrite", set_flag(&Options::overwrite)},
      {"--class", set_text(&Options::wanted)},
      {"--box", set_text(&Options::rank)},
      {"--artifact", [](Options& options, const std::string&, const Value& value) { options.artifact = value(); }},
      {"--threads", set_count(&Options::threads)},
      {"--trusted", set_flag(&Options::trusted)},
      {"--memory", set_count(&Options::memory)},
      {"--json", set_report(Report::json)},
      {"--jsonl", set_report(Report::jsonl)},
      {"--bench", set_flag(&Options::bench)},
      {"--calls", set_count(&Options::calls)},
      {"--callers", set_count(&Options::callers)},
      {"-h", set_flag(&Options::help)},
      {"--help", set_flag(&Options::help)},
  };
  return table;
}

[[noreturn]] void refuse_option(const std::string& option) {
  std::vector<std::string> known;
  for (const auto& [name, action] : list_options()) known.push_back(name);
  const std::vector<std::string> near = find_near(option, known, 1);
  throw UsageError("There is no option " + option + "." + (near.empty() ? "" : " Nearest: " + near[0] + "."));
}

void check_options(const Options& options) {
  std::error_code error;
  const bool single = options.photos.size() == 1 && !std::filesystem::is_directory(options.photos[0], error);
  const auto refuse_several = [&](bool given, const std::string& option, const std::string& hint) {
    if (given && !single) throw UsageError(option + " is for one photo" + hint);
  };
  refuse_several(options.picture.has_value(), "-o", "; use --out DIR for several.");
  refuse_several(options.npy.has_value(), "--npy", "; use --out DIR --heatmaps for several.");
  refuse_several(options.bench, "--bench", ".");
  if (options.dir && options.dir->empty()) throw UsageError("--out is empty; expected a folder.");
  const bool for_folder = options.heatmaps || options.skip_existing || options.overwrite;
  if (for_folder && !options.dir) throw UsageError("--heatmaps, --skip-existing and --overwrite need --out DIR.");
  if (options.dir && std::filesystem::path(*options.dir).extension() == ".png") {
    throw UsageError("--out is " + *options.dir + "; expected a folder. -o FILE writes the picture of one photo.");
  }
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t n = 0; n < arguments.size(); ++n) {
    const std::string& option = arguments[n];
    const Value value = [&] {
      if (++n == arguments.size()) throw UsageError(option + " needs a value.");
      return arguments[n];
    };
    const auto found = list_options().find(option);
    if (found != list_options().end()) found->second(options, option, value);
    else if (option.size() > 1 && option[0] == '-') refuse_option(option);
    else options.photos.push_back(option);
  }
  if (options.help) return options;
  const std::size_t least = options.artifact.empty() ? 2 : 1;
  if (options.photos.size() < least) {
    throw UsageError("Got " + std::to_string(options.photos.size()) + " file(s); expected at least one photo" +
                     (least == 2 ? " and an artifact." : "."));
  }
  if (options.artifact.empty()) {
    options.artifact = options.photos.back();
    options.photos.pop_back();
  }
  check_options(options);
  return options;
}

}  // namespace explainable
