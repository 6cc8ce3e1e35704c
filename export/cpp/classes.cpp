#include "classes.hpp"

#include <algorithm>
#include <charconv>
#include <map>

#include "errors.hpp"
#include "explainer.hpp"
#include "letter_cases.hpp"
#include "text.hpp"

namespace explainable {
namespace {

constexpr std::size_t kMaxDigits = 20;
constexpr std::size_t kMaxName = 1000;  // the search for near names takes the square of the length
constexpr std::size_t kNear = 4;

char32_t fold_letter(char32_t code) {
  for (const LetterRun& run : kLetterRuns) {
    if (code < run.first || code > run.last) continue;
    if ((code - run.first) % static_cast<char32_t>(run.step) == 0) return code + static_cast<char32_t>(run.shift);
  }
  return code;
}

bool is_number(const std::string& text) {
  const std::size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  return text.size() > sign && text.find_first_not_of("0123456789", sign) == text.npos;
}

std::int64_t parse_class(const std::string& number, std::int64_t classes) {
  if (number.size() > kMaxDigits) {
    throw InputError("The class is a number of " + std::to_string(number.size()) +
                     " characters; expected the index of a class.");
  }
  std::int64_t value = -1;
  const char* begin = number.data() + (number[0] == '+');
  const auto [end, error] = std::from_chars(begin, number.data() + number.size(), value);
  if (error == std::errc() && value >= 0 && value < classes) return value;
  throw InputError("The class is " + number + "; expected 0 to " + std::to_string(classes - 1) + ".");
}

// The parts of a class name between commas, in one case.
std::vector<std::string> split_name(const std::string& name) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find(',', begin), name.size());
    parts.push_back(fold_case(encode_utf8(strip(decode_utf8(name.substr(begin, end - begin))))));
    begin = end + 1;
  }
  return parts;
}

[[noreturn]] void refuse_name(const std::string& text, const std::string& key, const Metadata& metadata) {
  std::map<std::string, std::size_t> known;
  for (std::size_t n = 0; n < metadata.class_names.size(); ++n) {
    for (const std::string& part : split_name(metadata.class_names[n])) known[part] = n;
  }
  std::vector<std::string> names;
  for (const auto& [name, n] : known) names.push_back(name);
  std::string hint;
  for (const std::string& name : find_near(key, names, kNear)) {
    hint += (hint.empty() ? "Nearest: " : ", ") + name + " (" + std::to_string(known[name]) + ")";
  }
  throw InputError("There is no class '" + text + "' among " + std::to_string(metadata.class_names.size()) + ". " +
                   (hint.empty() ? "No class has a name like it; give a number." : hint + "."));
}

}  // namespace

std::string fold_case(const std::string& text) {
  std::u32string folded;
  for (const char32_t code : decode_utf8(text)) {
    const auto found = kLongLetters.find(code);
    folded += found == kLongLetters.end() ? std::u32string(1, fold_letter(code)) : found->second;
  }
  return encode_utf8(folded);
}

std::int64_t find_class(const std::string& text, const Metadata& metadata) {
  const std::string stripped = encode_utf8(strip(decode_utf8(text)));
  if (stripped == std::to_string(kPredicted)) return kPredicted;
  if (is_number(stripped)) return parse_class(stripped, metadata.classes);
  const std::size_t length = decode_utf8(text).size();
  if (length > kMaxName) {
    throw InputError("The name of the class has " + std::to_string(length) + " characters; expected at most " +
                     std::to_string(kMaxName) + ".");
  }
  if (metadata.class_names.empty()) {
    throw InputError("The class is '" + text + "', and no class names are known; give its number.");
  }
  const std::string key = fold_case(stripped);
  std::vector<std::size_t> whole, parts;
  for (std::size_t n = 0; n < metadata.class_names.size(); ++n) {
    const std::string& name = metadata.class_names[n];
    const std::vector<std::string> split = split_name(name);
    if (fold_case(name) == key) whole.push_back(n);
    if (std::find(split.begin(), split.end(), key) != split.end()) parts.push_back(n);
  }
  const std::vector<std::size_t>& matches = whole.empty() ? parts : whole;
  if (matches.empty()) refuse_name(text, key, metadata);
  if (matches.size() == 1) return static_cast<std::int64_t>(matches[0]);
  std::string numbers;
  for (const std::size_t n : matches) numbers += (numbers.empty() ? "" : ", ") + std::to_string(n);
  throw InputError("The classes " + numbers + " are all named '" + text + "'; give a number.");
}

}  // namespace explainable
