// bgfs mount: one image, shown as one raw file. It builds the configuration
// that `bgfs serve` would be given, and goes the same way.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "config/cli/daemon.h"
#include "config/cli/verb.h"
#include "config/diagnostic.h"
#include "config/validate.h"
#include "drivers/probe.h"
#include "drivers/qcow2/header.h"
#include "drivers/qcow2/writer.h"
#include "fuse/mountinfo.h"
#include "fuse/unique_fd.h"

namespace bgfs::cli {
namespace {

struct MountOptions {
  std::string image;
  std::string mount_point;
  std::string format;
  bool read_only = false;
  bool resizable = false;
  bool force_share = false;
  bool passthrough = false;
  std::vector<std::string> allow_implicit;
  std::vector<std::string> o;  // mount(8)'s -o, each a comma-separated list
  proto::Fuse fuse;            // what -o says of the file
};

void AddOptions(CLI::App* app, MountOptions* options) {
  app->add_option("IMAGE", options->image, "The image")->required();
  app->add_option("MOUNTPOINT", options->mount_point,
                  "An empty folder, where a file NAME.raw appears, or an "
                  "existing file (the image itself, too)")
      ->required();
  app->add_option("--format", options->format,
                  "raw or qcow2; needed where no magic tells it")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"raw", "qcow2"}));
  app->add_flag("--read-only", options->read_only, "Nobody may write");
  app->add_flag("--resizable", options->resizable,
                "Writing past the end and truncating change the size");
  app->add_flag("--passthrough", options->passthrough,
                "The kernel reads and writes the file of a raw image itself, "
                "at the file's own speed; with --read-only or --resizable, for "
                "root, from Linux 6.9 on");
  app->add_flag("--force-share", options->force_share,
                "Read an image that another program has open; implies "
                "--read-only");
  app->add_option("--allow-implicit", options->allow_implicit,
                  "A folder into which names in image headers may lead "
                  "besides the image's own")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app->add_option("-o", options->o,
                  "As for mount(8): ro, rw, allow_other, uid=N, gid=N, "
                  "mode=OCTAL")
      ->type_name("OPTIONS")
      ->allow_extra_args(false);
}

bool ParseNumber(absl::string_view text, int base, uint32_t* number) {
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, *number, base);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

// One of -o; false if there is none of that name or its value is wrong.
bool ApplyOption(absl::string_view text, MountOptions* options) {
  const std::pair<absl::string_view, absl::string_view> option =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  uint32_t number = 0;
  if (text == "ro") {
    options->read_only = true;
  } else if (text == "rw") {
    options->read_only = false;
  } else if (text == "allow_other") {
    options->fuse.set_allow_other(true);
  } else if (option.first == "uid" && ParseNumber(option.second, 10, &number)) {
    options->fuse.set_uid(number);
  } else if (option.first == "gid" && ParseNumber(option.second, 10, &number)) {
    options->fuse.set_gid(number);
  } else if (option.first == "mode" && ParseNumber(option.second, 8, &number) &&
             number <= 0777) {
    options->fuse.set_mode(number);
  } else {
    return false;
  }
  return true;
}

absl::StatusOr<std::string> FormatOf(const MountOptions& options) {
  if (!options.format.empty()) return options.format;
  const std::string name = config::Quote(options.image);
  const int fd = open(options.image.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  char start[kProbeBytes] = {};
  const ssize_t length = fd < 0 ? -1 : pread(fd, start, sizeof(start), 0);
  const int error = errno;
  if (fd >= 0) close(fd);
  if (length < 0) {
    return absl::UnavailableError(absl::StrCat("cannot read the image ", name,
                                               ": ", std::strerror(error)));
  }
  absl::StatusOr<std::string> format =
      ProbeFormat({start, static_cast<size_t>(length)});
  if (!format.ok()) {
    return absl::UnimplementedError(
        absl::StrCat("cannot open ", name, ": ", format.status().message()));
  }
  if (!format->empty()) return format;
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot tell the format of ", name,
      ": it has no known magic; if it is a raw image, say --format=raw"));
}

// Whether a qcow2 image that can be read can be written as well. What cannot
// even be read is for the opening to tell.
absl::Status CheckWritable(const std::string& image) {
  const fuse::UniqueFd fd(
      open(image.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info = {};
  if (!fd.valid() || fstat(fd.get(), &info) != 0) return absl::OkStatus();
  std::vector<uint8_t> start(size_t{1} << qcow2::kMaxClusterBits);
  const ssize_t length = pread(fd.get(), start.data(), start.size(), 0);
  start.resize(static_cast<size_t>(std::max<ssize_t>(0, length)));
  const auto header = qcow2::ParseHeader(start, info.st_size);
  if (!header.ok()) return absl::OkStatus();
  return qcow2::CheckWritable(*header, info.st_size);
}

// "top.qcow2" → "top.raw".
std::string FileName(const std::string& image) {
  return std::filesystem::path(image).filename().replace_extension(".raw");
}

proto::Config MakeConfig(const MountOptions& options, bool qcow2) {
  proto::Config config;
  proto::Node* node = config.add_nodes();
  node->set_node_name("image");
  if (options.read_only) node->set_read_only(true);
  node->set_discard(proto::Discard::UNMAP);
  if (options.force_share) node->set_force_share(true);
  proto::File* file = qcow2 ? node->mutable_qcow2()->mutable_file()
                            : node->mutable_raw()->mutable_file();
  file->set_filename(Absolute(options.image));
  proto::Export* item = config.add_exports();
  item->set_id(FileName(options.image));
  item->set_node("image");
  item->set_writable(!options.read_only);
  *item->mutable_fuse() = options.fuse;
  if (options.resizable) item->mutable_fuse()->set_resizable(true);
  if (options.passthrough) item->mutable_fuse()->set_passthrough(true);
  for (const std::string& folder : options.allow_implicit) {
    config.add_allow_implicit(Absolute(folder));
  }
  return config;
}

ExitStatus Mount(MountOptions options, const DaemonOptions& daemon) {
  NoticeSlowStart(daemon, absl::StrCat(config::Quote(options.image), " and ",
                                       config::Quote(options.mount_point)));
  // Also where the image itself lies below a mount that died.
  if (absl::Status s = DetachDead(options.mount_point); !s.ok()) return Fail(s);
  absl::StatusOr<std::string> format = FormatOf(options);
  if (!format.ok()) return Fail(format.status());
  const bool qcow2 = *format == "qcow2";
  std::string notice;
  if (qcow2 && !options.read_only) {
    const absl::Status fit = CheckWritable(options.image);
    if (!fit.ok() && options.resizable) return Fail(fit);
    if (!fit.ok()) {
      notice = absl::StrCat(config::Quote(options.image),
                            " is mounted read-only: ", fit.message());
      options.read_only = true;
    }
  }
  // Not by stat(2), which a daemon may have to answer that hangs.
  const absl::StatusOr<fuse::Place> place = fuse::Locate(options.mount_point);
  const bool folder = place.ok() && place->is_folder;
  DaemonJob job;
  job.options = daemon;
  job.notice = std::move(notice);
  job.layout.one_file = folder;
  job.layout.source = Absolute(options.image);
  if (folder) {
    job.layout.folder = Absolute(options.mount_point);
  } else {
    options.fuse.set_mountpoint(Absolute(options.mount_point));
  }
  job.source = config::FromMessage(MakeConfig(options, qcow2), Absolute("."));
  for (const config::Diagnostic& mistake : config::Validate(job.source)) {
    return Fail(config::Format("", mistake));
  }
  return RunDaemon(job);
}

}  // namespace

ExitStatus RunMount(const Arguments& arguments) {
  CLI::App app(
      "Shows a disk image (raw, or a qcow2 chain) as a raw file, and returns "
      "once it is\nusable. End it with: bgfs umount MOUNTPOINT\nInstalled, it "
      "is "
      "what mount -t fuse.bgfs and fstab call; options such as --format=raw\n"
      "are then written among theirs: -o format=raw,nofail",
      "bgfs mount");
  MountOptions options;
  DaemonOptions daemon;
  AddOptions(&app, &options);
  AddDaemonOptions(&app, &daemon);
  if (auto ended = Parse(&app, arguments)) return *ended;
  for (const std::string& list : options.o) {
    for (absl::string_view option : absl::StrSplit(list, ',')) {
      if (ApplyOption(option, &options)) continue;
      return FailUsage("mount",
                       absl::StrCat("-o: cannot use ", config::Quote(option)));
    }
  }
  if (options.force_share) options.read_only = true;
  if (options.read_only && options.resizable) {
    return FailUsage("mount", "--resizable and read-only exclude each other");
  }
  return Mount(std::move(options), daemon);
}

}  // namespace bgfs::cli
