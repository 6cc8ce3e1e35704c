// The ratio of similarity of Ratcliff and Obershelp, with the rules of Python's difflib.

#include <algorithm>
#include <map>

#include "classes.hpp"
#include "text.hpp"

namespace explainable {
namespace {

constexpr double kLeast = 0.6;
constexpr std::size_t kLong = 200;  // from this length on, letters of more than a hundredth of the text are popular

using Places = std::map<char32_t, std::vector<std::size_t>>;

struct Range {
  std::size_t begin, end;
};

struct Match {
  std::size_t left, right, size;
};

// The places of each letter, without popular letters.
Places list_places(const std::u32string& text) {
  Places places;
  for (std::size_t n = 0; n < text.size(); ++n) places[text[n]].push_back(n);
  if (text.size() < kLong) return places;
  std::erase_if(places, [&](const auto& place) { return place.second.size() > text.size() / 100 + 1; });
  return places;
}

Match find_longest(const std::u32string& left, const std::u32string& right, const Places& places, Range a, Range b) {
  Match best{a.begin, b.begin, 0};
  std::map<std::size_t, std::size_t> sizes;  // of the match that ends at a place of `right`
  for (std::size_t n = a.begin; n < a.end; ++n) {
    std::map<std::size_t, std::size_t> next;
    const auto found = places.find(left[n]);
    for (const std::size_t k : found == places.end() ? std::vector<std::size_t>() : found->second) {
      if (k < b.begin || k >= b.end) continue;
      const auto before = k ? sizes.find(k - 1) : sizes.end();
      const std::size_t size = next[k] = (before == sizes.end() ? 0 : before->second) + 1;
      if (size > best.size) best = {n + 1 - size, k + 1 - size, size};
    }
    sizes = std::move(next);
  }
  while (best.left > a.begin && best.right > b.begin && left[best.left - 1] == right[best.right - 1]) {
    best = {best.left - 1, best.right - 1, best.size + 1};
  }
  while (best.left + best.size < a.end && best.right + best.size < b.end &&
         left[best.left + best.size] == right[best.right + best.size]) {
    ++best.size;
  }
  return best;
}

double compute_ratio(const std::u32string& left, const std::u32string& right, const Places& places) {
  std::size_t same = 0;
  std::vector<std::pair<Range, Range>> open = {{{0, left.size()}, {0, right.size()}}};
  while (!open.empty()) {
    const auto [a, b] = open.back();
    open.pop_back();
    const Match match = find_longest(left, right, places, a, b);
    if (!match.size) continue;
    same += match.size;
    open.push_back({{a.begin, match.left}, {b.begin, match.right}});
    open.push_back({{match.left + match.size, a.end}, {match.right + match.size, b.end}});
  }
  const std::size_t total = left.size() + right.size();
  return total ? 2.0 * static_cast<double>(same) / static_cast<double>(total) : 1.0;
}

}  // namespace

std::vector<std::string> find_near(const std::string& text, const std::vector<std::string>& known, std::size_t count) {
  const std::u32string wanted = decode_utf8(text);
  const Places places = list_places(wanted);
  std::vector<std::pair<double, std::u32string>> near;
  for (const std::string& each : known) {
    std::u32string candidate = decode_utf8(each);
    const double ratio = compute_ratio(candidate, wanted, places);
    if (ratio >= kLeast) near.emplace_back(ratio, std::move(candidate));
  }
  std::sort(near.rbegin(), near.rend());
  near.resize(std::min(near.size(), count));
  std::vector<std::string> names;
  for (const auto& [ratio, name] : near) names.push_back(encode_utf8(name));
  return names;
}

}  // namespace explainable
