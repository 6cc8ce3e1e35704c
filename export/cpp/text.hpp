// UTF-8 as code points.
#pragma once

#include <string>

namespace explainable {

// Bytes that are no UTF-8 become one code point each.
std::u32string decode_utf8(const std::string& text);
std::string encode_utf8(const std::u32string& text);

// The text without white space at both ends.
std::u32string strip(const std::u32string& text);

}  // namespace explainable
