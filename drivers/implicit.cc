#include "drivers/implicit.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "drivers/quote.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

namespace bgfs {
namespace {

// {"file": {"filename": "x"}} as {"file.filename": "x"}, as QEMU takes both.
using FlatKeys = std::map<std::string, std::string>;

absl::Status Flatten(const google::protobuf::Struct& object,
                     const std::string& prefix, FlatKeys* keys) {
  for (const auto& [name, value] : object.fields()) {
    const std::string key = absl::StrCat(prefix, name);
    if (value.has_struct_value()) {
      const absl::Status status =
          Flatten(value.struct_value(), absl::StrCat(key, "."), keys);
      if (!status.ok()) return status;
    } else if (!value.has_string_value() ||
               !keys->emplace(key, value.string_value()).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the key ", Quote(key), " is there twice or is not a string"));
    }
  }
  return absl::OkStatus();
}

std::string Take(FlatKeys* keys, const std::string& key) {
  auto node = keys->extract(key);
  return node.empty() ? std::string() : node.mapped();
}

absl::Status UnknownDriver(absl::string_view driver) {
  return absl::UnimplementedError(
      absl::StrCat("the driver ", Quote(driver),
                   " cannot be opened from a header in this version"));
}

bool IsProtocol(absl::string_view driver) {
  return driver == "file" || driver == "host_device";
}

absl::StatusOr<ImplicitImage> FromKeys(FlatKeys keys) {
  ImplicitImage image;
  image.format = Take(&keys, "driver");
  std::string prefix;
  if (IsProtocol(image.format)) {
    image.format = "raw";
  } else if (image.format.empty() && keys.count("filename") > 0) {
    prefix = "";
  } else {
    prefix = "file.";
    if (image.format != "qcow2" && image.format != "raw" &&
        !image.format.empty()) {
      return UnknownDriver(image.format);
    }
    const std::string protocol = Take(&keys, "file.driver");
    if (!protocol.empty() && !IsProtocol(protocol)) {
      return UnknownDriver(protocol);
    }
  }
  image.filename = Take(&keys, prefix + "filename");
  if (!keys.empty()) {
    return absl::UnimplementedError(absl::StrCat(
        "the key ", Quote(keys.begin()->first),
        " is not understood; only driver and file (with driver and filename) "
        "are"));
  }
  return image;
}

absl::StatusOr<ImplicitImage> ParseJson(absl::string_view json) {
  google::protobuf::Struct object;
  const auto parsed =
      google::protobuf::util::JsonStringToMessage(std::string(json), &object);
  if (!parsed.ok()) return absl::InvalidArgumentError("it is not valid JSON");
  FlatKeys keys;
  absl::Status flat = Flatten(object, "", &keys);
  if (!flat.ok()) return flat;
  return FromKeys(std::move(keys));
}

// "nbd" of "nbd:host:port"; empty for a path. A colon behind a slash belongs to
// the path.
absl::string_view ProtocolOf(absl::string_view name) {
  const size_t end = name.find_first_of(":/");
  if (end == absl::string_view::npos || name[end] == '/') return "";
  return name.substr(0, end);
}

// Links resolved; empty, with errno set, where it leads nowhere.
std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(
      realpath(path.c_str(), nullptr), &std::free);
  return real == nullptr ? std::string() : std::string(real.get());
}

std::string FolderOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

bool LiesBelow(absl::string_view path, absl::string_view folder) {
  absl::ConsumeSuffix(&folder, "/");
  return absl::ConsumePrefix(&path, folder) && absl::StartsWith(path, "/");
}

}  // namespace

absl::StatusOr<ImplicitImage> ParseImageName(absl::string_view name) {
  ImplicitImage image;
  if (absl::ConsumePrefix(&name, "json:")) {
    absl::StatusOr<ImplicitImage> parsed = ParseJson(name);
    if (!parsed.ok()) return parsed;
    image = *std::move(parsed);
  } else {
    const bool prefixed = absl::ConsumePrefix(&name, "file:");
    const absl::string_view protocol = prefixed ? "" : ProtocolOf(name);
    if (!protocol.empty()) {
      return absl::UnimplementedError(absl::StrCat(
          "the protocol ", Quote(protocol),
          " cannot be opened in this version; a file of that name would be "
          "written file:NAME"));
    }
    image.filename = std::string(name);
  }
  if (image.filename.empty() ||
      image.filename.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("it has no file name, or a bad one");
  }
  return image;
}

absl::StatusOr<std::string> ParseImageFormat(absl::string_view format) {
  if (IsProtocol(format)) return std::string("raw");
  if (format == "raw" || format == "qcow2") return std::string(format);
  return absl::UnimplementedError(absl::StrCat(
      "the format ", Quote(format), " cannot be opened in this version"));
}

std::string LocateImplicit(absl::string_view holder,
                           absl::string_view filename) {
  if (absl::StartsWith(filename, "/")) return std::string(filename);
  return absl::StrCat(FolderOf(holder), "/", filename);
}

absl::StatusOr<std::string> CheckImplicit(const OpenContext& context,
                                          const std::string& holder,
                                          const std::string& path) {
  if (context.implicit_files == proto::ImplicitFiles::ANY) return path;
  if (context.implicit_files == proto::ImplicitFiles::DENY) {
    return absl::PermissionDeniedError(
        absl::StrCat(Quote(path),
                     " is not opened, since names in headers are not followed "
                     "(implicit_files: DENY); give the node a backing"));
  }
  std::string real = RealPath(path);
  if (real.empty()) {
    return absl::Status(
        absl::ErrnoToStatusCode(errno),
        absl::StrCat("cannot open ", Quote(path), ": ", std::strerror(errno)));
  }
  const std::string folder = FolderOf(real);
  if (folder == RealPath(FolderOf(holder))) return real;
  for (const std::string& allowed : context.allow_implicit) {
    const std::string real_allowed = RealPath(allowed);
    if (!real_allowed.empty() && LiesBelow(real, real_allowed)) return real;
  }
  return absl::PermissionDeniedError(absl::StrCat(
      Quote(real),
      " is outside the folder of the image that names it; allow "
      "it with --allow-implicit=",
      ShellWord(folder), " (allow_implicit: ", Quote(folder), ")"));
}

}  // namespace bgfs
