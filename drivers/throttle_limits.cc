#include "drivers/throttle_limits.h"

#include "absl/strings/str_cat.h"
#include "drivers/opener.h"

namespace bgfs {
namespace {

// Takes the fields of one message after the other, and keeps the first error.
class Reader {
 public:
  // Absent is 0.
  int64_t Number(absl::string_view name, int64_t value) {
    if (value < 0) {
      status_.Update(absl::InvalidArgumentError(
          absl::StrCat(name, " ", value, " is negative; give 0 or more")));
    }
    return value;
  }
  int64_t Bytes(absl::string_view name, absl::string_view text) {
    if (text.empty()) return 0;
    const auto bytes = ParseBytes(name, text);
    status_.Update(bytes.status());
    return bytes.value_or(0);
  }
  int64_t Seconds(absl::string_view name, int64_t value) {
    if (value < 1) {
      status_.Update(absl::InvalidArgumentError(
          absl::StrCat(name, " ", value, " is no time; give 1 or more")));
    }
    return value;
  }
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

}  // namespace

absl::StatusOr<ThrottleLimits> ThrottleLimitsOf(
    const proto::ThrottleLimits& limits) {
  Reader reader;
  const auto iops = [&](absl::string_view name, int64_t average, int64_t max,
                        int64_t length) {
    return ThrottleLimits::Rate{
        reader.Number(name, average),
        reader.Number(absl::StrCat(name, "_max"), max),
        reader.Seconds(absl::StrCat(name, "_max_length"), length)};
  };
  const auto bps = [&](absl::string_view name, absl::string_view average,
                       absl::string_view max, int64_t length) {
    return ThrottleLimits::Rate{
        reader.Bytes(name, average),
        reader.Bytes(absl::StrCat(name, "_max"), max),
        reader.Seconds(absl::StrCat(name, "_max_length"), length)};
  };
  ThrottleLimits result;
  result.iops_total =
      iops("iops_total", limits.iops_total(), limits.iops_total_max(),
           limits.iops_total_max_length());
  result.iops_read =
      iops("iops_read", limits.iops_read(), limits.iops_read_max(),
           limits.iops_read_max_length());
  result.iops_write =
      iops("iops_write", limits.iops_write(), limits.iops_write_max(),
           limits.iops_write_max_length());
  result.bps_total = bps("bps_total", limits.bps_total(),
                         limits.bps_total_max(), limits.bps_total_max_length());
  result.bps_read = bps("bps_read", limits.bps_read(), limits.bps_read_max(),
                        limits.bps_read_max_length());
  result.bps_write = bps("bps_write", limits.bps_write(),
                         limits.bps_write_max(), limits.bps_write_max_length());
  result.iops_size = reader.Bytes("iops_size", limits.iops_size());
  if (!reader.status().ok()) return reader.status();
  return result;
}

}  // namespace bgfs
