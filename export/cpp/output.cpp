#include "output.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <system_error>

#include "errors.hpp"

#if !defined(_WIN32)
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace explainable {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxLinks = 40;  // as in Linux

[[noreturn]] void refuse(const fs::path& path, const std::string& reason) {
  throw InputError(path.string() + " cannot be written: " + reason + ".");
}

std::string name_kind(fs::file_type type) {
  switch (type) {
    case fs::file_type::directory:
      return "it is a directory";
    case fs::file_type::fifo:
      return "it is a FIFO";
    case fs::file_type::socket:
      return "it is a socket";
    default:
      return "it is a device";
  }
}

// Refuses what may not be replaced, and follows symbolic links to the file that the path names.
fs::path find_target(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none || status.type() == fs::file_type::unknown) refuse(path, error.message());
  if (fs::exists(status)) {
    if (!fs::is_regular_file(status)) refuse(path, name_kind(status.type()));
    const auto writers = fs::perms::owner_write | fs::perms::group_write | fs::perms::others_write;
    bool writable = (status.permissions() & writers) != fs::perms::none;
#if !defined(_WIN32)
    writable = writable && access(path.c_str(), W_OK) == 0;
#endif
    if (!writable) refuse(path, "the file is read-only");
  }
  fs::path target = path;
  for (int n = 0; n < kMaxLinks && fs::is_symlink(fs::symlink_status(target, error)); ++n) {
    const fs::path link = fs::read_symlink(target, error);
    target = link.is_absolute() ? link : target.parent_path() / link;
  }
  return target;
}

// A name beside `path` that another thread or process is unlikely to use.
fs::path make_temporary_name(const fs::path& path) {
  static std::atomic<unsigned> count{std::random_device{}()};
  fs::path made = path;
  made += ".";
  made += std::to_string(count++);
  made += ".tmp";
  return made;
}

// Writes a file that does not exist yet. Returns the reason where that fails, else an empty string.
std::string write_new(const fs::path& path, std::span<const std::uint8_t> content) {
  std::FILE* file = std::fopen(path.string().c_str(), "wbx");
  if (!file) return std::generic_category().message(errno);
  bool written = std::fwrite(content.data(), 1, content.size(), file) == content.size() && std::fflush(file) == 0;
#if !defined(_WIN32)
  written = written && fsync(fileno(file)) == 0;  // a full disk may show here first
#endif
  const int reason = errno;
  if (std::fclose(file) != 0 && written) return std::generic_category().message(errno);
  return written ? "" : std::generic_category().message(reason);
}

// Gives the new file the mode and the owner of the one that it replaces. Returns the reason where that fails.
std::string keep_mode_and_owner(const fs::path& made, const fs::path& target) {
#if !defined(_WIN32)
  struct stat before {}, after {};
  if (stat(target.c_str(), &before) != 0) return "";  // there is no such file
  if (stat(made.c_str(), &after) != 0) return std::generic_category().message(errno);
  const bool same = before.st_uid == after.st_uid && before.st_gid == after.st_gid;
  if (!same && chown(made.c_str(), before.st_uid, before.st_gid) != 0) {
    return "the file belongs to another user or group, which cannot be kept";
  }
  if (chmod(made.c_str(), before.st_mode & 07777) != 0) return std::generic_category().message(errno);
#else
  (void)made, (void)target;
#endif
  return "";
}

}  // namespace

void write_file(const fs::path& path, std::span<const std::uint8_t> content) {
  const fs::path target = find_target(path), made = make_temporary_name(target);
  std::string reason = write_new(made, content);
  if (reason.empty()) reason = keep_mode_and_owner(made, target);
  std::error_code error;
  if (reason.empty()) {
    fs::rename(made, target, error);
    if (error) reason = error.message();
  }
  if (reason.empty()) return;
  fs::remove(made, error);
  refuse(path, reason);
}

}  // namespace explainable
