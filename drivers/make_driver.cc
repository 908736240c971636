// Drivers that are not open yet, from a message of the configuration.

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "drivers/file.h"
#include "drivers/memory.h"
#include "drivers/null.h"
#include "drivers/opener.h"
#include "drivers/qcow2/qcow2.h"
#include "drivers/raw.h"

namespace bgfs {
namespace {

using DriverOr = absl::StatusOr<std::unique_ptr<Driver>>;

constexpr int64_t kDefaultNullBytes = int64_t{1} << 30;

DriverOr MakeFile(const proto::Node& spec, const OpenContext& context) {
  FileDriver::Options options;
  options.filename = spec.file().filename();
  options.direct = spec.cache().direct();
  options.locking = spec.file().locking();
  options.force_share = spec.force_share();
  options.warn = context.warn;
  return std::make_unique<FileDriver>(std::move(options));
}

DriverOr MakeRaw(const proto::Node& spec) {
  RawDriver::Options options;
  if (spec.raw().has_offset()) {
    const auto offset = ParseBytes("offset", spec.raw().offset());
    if (!offset.ok()) return offset.status();
    options.offset = *offset;
  }
  if (spec.raw().has_size()) {
    const auto size = ParseBytes("size", spec.raw().size());
    if (!size.ok()) return size.status();
    options.size = *size;
  }
  return std::make_unique<RawDriver>(options);
}

DriverOr MakeQcow2(const proto::Node& spec, const OpenContext& context) {
  auto options = Qcow2OptionsOf(spec, context, spec.node_name());
  if (!options.ok()) return options.status();
  options->l2_cache_bytes /= context.copies;
  return std::make_unique<qcow2::Qcow2>(absl::nullopt, *std::move(options));
}

DriverOr MakeNull(const proto::Node& spec) {
  int64_t bytes = kDefaultNullBytes;
  if (spec.null().has_size()) {
    const auto size = ParseBytes("size", spec.null().size());
    if (!size.ok()) return size.status();
    bytes = *size;
  }
  return std::make_unique<NullDriver>(bytes);
}

DriverOr MakeMemory(const proto::Node& spec) {
  const auto size = ParseBytes("size", spec.memory().size());
  if (!size.ok()) return size.status();
  return std::make_unique<MemoryDriver>(*size);
}

}  // namespace

absl::StatusOr<qcow2::Options> Qcow2OptionsOf(const proto::Node& spec,
                                              const OpenContext& context,
                                              const std::string& name) {
  qcow2::Options options;
  if (spec.qcow2().has_l2_cache_size()) {
    const auto bytes =
        ParseBytes("l2_cache_size", spec.qcow2().l2_cache_size());
    if (!bytes.ok()) return bytes.status();
    options.l2_cache_bytes = *bytes;
  }
  if (context.warn) {
    options.report = [warn = context.warn, name](absl::string_view line) {
      warn(absl::StrCat(name, ": ", line));
    };
  }
  return options;
}

absl::StatusOr<std::unique_ptr<Driver>> MakeDriver(const proto::Node& spec,
                                                   const OpenContext& context) {
  switch (spec.driver_case()) {
    case proto::Node::kFile:
      return MakeFile(spec, context);
    case proto::Node::kRaw:
      return MakeRaw(spec);
    case proto::Node::kQcow2:
      return MakeQcow2(spec, context);
    case proto::Node::kNull:
      return MakeNull(spec);
    case proto::Node::kMemory:
      return MakeMemory(spec);
    case proto::Node::kThrottle:
    case proto::Node::kCopyOnRead:
    case proto::Node::kBlkdebug:
      return MakeFilter(spec, context);
    case proto::Node::DRIVER_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "the node has no driver; give it one, such as raw { ... }");
}

}  // namespace bgfs
