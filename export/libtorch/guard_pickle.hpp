// Reads a pickle of TorchScript as data.
#pragma once

#include <algorithm>
#include <cctype>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace explainable {

// The reason why a file cannot be shown to be harmless; the end of a sentence.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline bool is_name_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

inline bool starts_with(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }
inline bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

inline bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

// Checks the names of a pickle's classes and functions, and the sizes of its entries of numbers, which `size_of` gives by
// their key. Throws Refusal.
void walk_pickle(std::string_view content, const std::function<std::size_t(const std::string&)>& size_of);

}  // namespace explainable
