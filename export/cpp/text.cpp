#include "text.hpp"

#include <algorithm>
#include <string_view>

namespace explainable {
namespace {

constexpr std::u32string_view kSpaces =
    U"\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028"
    U"\u2029\u202f\u205f\u3000";

// The number of bytes of a code point that starts with `byte`; 0 where none does.
std::size_t count_bytes(unsigned char byte) {
  if (byte < 0x80) return 1;
  if (byte >= 0xc2 && byte < 0xe0) return 2;
  if (byte >= 0xe0 && byte < 0xf0) return 3;
  return byte >= 0xf0 && byte < 0xf5 ? 4 : 0;
}

bool is_space(char32_t code) { return kSpaces.find(code) != kSpaces.npos; }

}  // namespace

std::u32string decode_utf8(const std::string& text) {
  std::u32string codes;
  for (std::size_t n = 0; n < text.size();) {
    const auto first = static_cast<unsigned char>(text[n]);
    std::size_t count = count_bytes(first);
    char32_t code = count < 2 ? first : first & (0x7f >> count);
    for (std::size_t k = 1; k < count; ++k) {
      const unsigned char next = n + k < text.size() ? static_cast<unsigned char>(text[n + k]) : 0;
      if ((next & 0xc0) != 0x80) count = 0;
      else code = code << 6 | (next & 0x3f);
    }
    codes += count ? code : first;
    n += std::max<std::size_t>(count, 1);
  }
  return codes;
}

std::string encode_utf8(const std::u32string& text) {
  std::string bytes;
  for (const char32_t code : text) {
    const auto tail = [&](int shift) { bytes += static_cast<char>(0x80 | (code >> shift & 0x3f)); };
    if (code < 0x80) {
      bytes += static_cast<char>(code);
    } else if (code < 0x800) {
      bytes += static_cast<char>(0xc0 | code >> 6);
    } else if (code < 0x10000) {
      bytes += static_cast<char>(0xe0 | code >> 12);
      tail(6);
    } else {
      bytes += static_cast<char>(0xf0 | code >> 18);
      tail(12);
      tail(6);
    }
    if (code >= 0x80) tail(0);
  }
  return bytes;
}

std::u32string strip(const std::u32string& text) {
  const auto first = std::find_if_not(text.begin(), text.end(), is_space);
  const auto last = std::find_if_not(text.rbegin(), std::make_reverse_iterator(first), is_space).base();
  return {first, last};
}

}  // namespace explainable
