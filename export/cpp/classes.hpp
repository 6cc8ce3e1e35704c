// Classes by name, as in Python.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metadata.hpp"

namespace explainable {

// The class given by its number or name; kPredicted for -1. A name matches the whole class name or one of its parts
// between commas, in any case. Throws InputError where there is no such class, with the nearest names, or more than one.
std::int64_t find_class(const std::string& text, const Metadata& metadata);

// At most `count` of the texts that are like `text`, the best first, as difflib.get_close_matches of Python.
std::vector<std::string> find_near(const std::string& text, const std::vector<std::string>& known, std::size_t count);

// The text in one case, as str.casefold of Python for Latin, Greek, Cyrillic and Armenian.
std::string fold_case(const std::string& text);

}  // namespace explainable
