#include "drivers/probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "drivers/file.h"
#include "drivers/quote.h"
#include "graph/async/buffer.h"

namespace bgfs {
namespace {

struct Magic {
  absl::string_view format;
  size_t offset;
  absl::string_view bytes;
};

constexpr absl::string_view kQcow2Magic = "QFI\xfb";

// Those of other formats, so that they can be refused by name.
constexpr std::array<Magic, 10> kOthers = {{
    {"vmdk", 0, "KDMV"},
    {"vmdk", 0, "COWD"},
    {"vmdk", 0, "# Disk DescriptorFile"},
    {"vdi", 64, "\x7f\x10\xda\xbe"},
    {"vhdx", 0, "vhdxfile"},
    {"vhd", 0, "conectix"},
    {"luks", 0, "LUKS\xba\xbe"},
    {"qed", 0, absl::string_view("QED\0", 4)},
    {"parallels", 0, "WithoutFreeSpace"},
    {"parallels", 0, "WithouFreSpacExt"},
}};

Task<IoResult<std::string>> ReadStart(File& file) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(kProbeBytes);
  if (!buffer) co_return IoError(ENOMEM);
  int64_t done = 0;
  while (done < kProbeBytes) {
    const int64_t count =
        co_await file.Read(done, buffer.view(done, kProbeBytes - done));
    if (count == -EINTR) continue;
    if (count < 0) co_return IoError(static_cast<int>(-count));
    if (count == 0) break;
    done += count;
  }
  co_return std::string(buffer.data(), static_cast<size_t>(done));
}

}  // namespace

absl::StatusOr<std::string> ProbeFormat(absl::string_view start) {
  if (absl::StartsWith(start, kQcow2Magic)) return std::string("qcow2");
  for (const Magic& magic : kOthers) {
    if (start.size() < magic.offset) continue;
    if (absl::StartsWith(start.substr(magic.offset), magic.bytes)) {
      return absl::UnimplementedError(
          absl::StrCat("its format is ", magic.format,
                       ", which this version cannot open; convert it to qcow2 "
                       "or raw (qemu-img convert)"));
    }
  }
  return std::string();
}

Task<absl::StatusOr<std::string>> ProbeFile(Loop& loop, std::string filename) {
  IoResult<std::unique_ptr<File>> file =
      co_await loop.Open(filename, OpenOptions());
  if (!file.ok()) {
    co_return FileDriver::CannotOpen(filename, /*writing=*/false,
                                     file.status());
  }
  const IoResult<std::string> start = co_await ReadStart(**file);
  if (!start.ok()) {
    co_return start.status().ToStatus(
        absl::StrCat("reading ", Quote(filename)));
  }
  absl::StatusOr<std::string> format = ProbeFormat(*start);
  if (!format.ok()) {
    co_return absl::Status(
        format.status().code(),
        absl::StrCat(Quote(filename), ": ", format.status().message()));
  }
  if (format->empty()) {
    co_return absl::InvalidArgumentError(absl::StrCat(
        Quote(filename),
        " has no magic that tells its format; if it is a raw image, say so: "
        "--format=raw"));
  }
  co_return format;
}

}  // namespace bgfs
