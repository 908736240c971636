#include "config/cli/stats_table.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "config/cli/verb.h"
#include "config/stats_message.h"
#include "graph/histogram.h"

namespace bgfs::cli {
namespace {

using config::OfKind;
using control::CacheStats;
using control::ExportStats;
using control::NodeStats;
using control::OperationStats;
using control::StatsReply;

constexpr double kMib = 1 << 20;

// As aligned columns: the first `left` to the left, the others to the right,
// and the last as it is.
class Table {
 public:
  Table(size_t left, std::vector<std::string> head) : left_(left) {
    Add(std::move(head));
  }
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  std::string Text() const {
    std::vector<size_t> widths(rows_.front().size());
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) {
        widths[i] = std::max(widths[i], row[i].size());
      }
    }
    std::string text;
    for (const auto& row : rows_) {
      std::string line;
      for (size_t i = 0; i < row.size(); ++i) {
        const int width = static_cast<int>(widths[i]);
        const bool left = i < left_ || i + 1 == row.size();
        if (left) {
          absl::StrAppendFormat(&line, "%-*s  ", width, row[i]);
        } else {
          absl::StrAppendFormat(&line, "%*s  ", width, row[i]);
        }
      }
      absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
    }
    return text;
  }

 private:
  const size_t left_;
  std::vector<std::vector<std::string>> rows_;
};

// What there was of a kind, or of all together, in some time.
struct Row {
  int64_t operations = 0;
  int64_t bytes = 0;
  int64_t errors = 0;
  Histogram latency_ns;

  // Whoever sent it may have sent anything.
  static int64_t Cut(uint64_t value) {
    return static_cast<int64_t>(std::min(value, uint64_t{1} << 56));
  }
  static Row Of(const OperationStats& item) {
    return {Cut(item.operations()), Cut(item.bytes()), Cut(item.errors()),
            config::ToHistogram(item.latency())};
  }
  void Subtract(const Row& before) {
    operations -= before.operations;
    bytes -= before.bytes;
    errors -= before.errors;
    latency_ns.Subtract(before.latency_ns);
  }
  void Add(const Row& other) {
    operations += other.operations;
    bytes += other.bytes;
    errors += other.errors;
    latency_ns.Merge(other.latency_ns);
  }

  std::vector<std::string> Columns(double seconds) const {
    const auto rate = [seconds](double count) {
      return absl::StrFormat("%.1f", seconds > 0 ? count / seconds : 0);
    };
    std::vector<std::string> columns = {
        rate(static_cast<double>(operations)),
        rate(static_cast<double>(bytes) / kMib),
        absl::StrFormat(
            "%.2f", seconds > 0
                        ? static_cast<double>(latency_ns.sum()) / 1e9 / seconds
                        : 0)};
    for (double fraction : {0.5, 0.99}) {
      columns.push_back(Duration(latency_ns.Quantile(fraction)));
    }
    columns.push_back(Duration(latency_ns.max()));
    columns.push_back(absl::StrCat(errors));
    return columns;
  }
};

std::string NameOf(OperationStats::Kind kind) {
  return absl::AsciiStrToLower(OperationStats::Kind_Name(kind));
}

// The state of the same one before, which was not made anew since; else null.
const ExportStats* Before(const ExportStats& item, const StatsReply* before) {
  if (before == nullptr) return nullptr;
  for (const ExportStats& old : before->exports()) {
    if (old.id() == item.id() && old.begun_ns() == item.begun_ns()) return &old;
  }
  return nullptr;
}

const NodeStats* Before(const NodeStats& item, const StatsReply* before) {
  if (before == nullptr) return nullptr;
  for (const NodeStats& old : before->nodes()) {
    const bool same = old.name() == item.name() &&
                      OfKind(old, OperationStats::READ).operations() <=
                          OfKind(item, OperationStats::READ).operations();
    if (same) return &old;
  }
  return nullptr;
}

Row RowOf(const ExportStats& item, const ExportStats* before,
          OperationStats::Kind kind) {
  Row row = Row::Of(OfKind(item, kind));
  if (before != nullptr) {
    row.Subtract(Row::Of(OfKind(*before, kind)));
  }
  return row;
}

std::string NoteOf(const ExportStats& item) {
  if (item.stale()) return "stale: it does not answer, or has ended";
  std::string note = absl::StrCat(item.in_flight(), " in flight, at most ",
                                  item.max_in_flight());
  if (item.parked_now() > 0)
    absl::StrAppend(&note, "; ", item.parked_now(), " parked");
  return note;
}

void AddExport(const ExportStats& item, const ExportStats* before,
               Table* table) {
  const uint64_t since =
      before != nullptr ? before->taken_ns() : item.begun_ns();
  const double seconds =
      item.taken_ns() > since
          ? static_cast<double>(item.taken_ns() - since) / 1e9
          : 0;
  const auto add = [&](const std::string& id, const std::string& kind,
                       const Row& row, const std::string& note) {
    std::vector<std::string> columns = row.Columns(seconds);
    columns.insert(columns.begin(), {id, kind});
    columns.push_back(note);
    table->Add(std::move(columns));
  };
  Row all;
  for (const OperationStats& kind : item.operations()) {
    all.Add(RowOf(item, before, kind.kind()));
  }
  add(Text(item.id()), "all", all, NoteOf(item));
  for (const OperationStats& kind : item.operations()) {
    const Row row = RowOf(item, before, kind.kind());
    if (row.operations > 0) add("", NameOf(kind.kind()), row, "");
  }
}

uint64_t Since(uint64_t now, uint64_t before) {
  return now > before ? now - before : 0;
}

// "l2 99.3%": of those that were asked.
std::string CachesOf(const NodeStats& item, const NodeStats& before) {
  std::string text;
  for (int i = 0; i < item.caches_size(); ++i) {
    const CacheStats& cache = item.caches(i);
    const CacheStats& old = i < before.caches_size()
                                ? before.caches(i)
                                : CacheStats::default_instance();
    const auto hits = static_cast<double>(Since(cache.hits(), old.hits()));
    const double asked =
        hits + static_cast<double>(Since(cache.misses(), old.misses()));
    if (asked == 0) continue;
    absl::StrAppendFormat(&text, "%s%s %.1f%%", text.empty() ? "" : ", ",
                          Text(cache.name()), 100 * hits / asked);
  }
  return text;
}

void AddNode(const NodeStats& item, const NodeStats* old, Table* table) {
  const NodeStats& before =
      old != nullptr ? *old : NodeStats::default_instance();
  const auto count = [&](OperationStats::Kind kind) {
    return absl::StrCat(Since(OfKind(item, kind).operations(),
                              OfKind(before, kind).operations()));
  };
  const auto mib = [&](OperationStats::Kind kind) {
    return absl::StrFormat(
        "%.1f", static_cast<double>(Since(OfKind(item, kind).bytes(),
                                          OfKind(before, kind).bytes())) /
                    kMib);
  };
  uint64_t errors = 0;
  for (const OperationStats& kind : item.operations()) {
    errors += Since(kind.errors(), OfKind(before, kind.kind()).errors());
  }
  std::string note = CachesOf(item, before);
  if (item.failed_flush() != 0) {
    absl::StrAppend(&note, note.empty() ? "" : "; ",
                    "a flush failed: ", std::strerror(item.failed_flush()));
  }
  if (item.stale()) absl::StrAppend(&note, note.empty() ? "" : "; ", "stale");
  table->Add({Text(item.name()), Text(item.driver()),
              count(OperationStats::READ), mib(OperationStats::READ),
              count(OperationStats::WRITE), mib(OperationStats::WRITE),
              count(OperationStats::FLUSH),
              absl::StrCat(
                  Since(item.flushes_coalesced(), before.flushes_coalesced())),
              absl::StrCat(
                  Since(item.serialising_waits(), before.serialising_waits())),
              absl::StrCat(errors), note});
}

}  // namespace

std::string Duration(int64_t ns) {
  if (ns <= 0) return "0";
  auto value = static_cast<double>(ns);
  const char* unit = "ns";
  for (const char* larger : {"us", "ms", "s"}) {
    if (value < 999.5) break;
    value /= 1000;
    unit = larger;
  }
  return absl::StrFormat("%.3g%s", value, unit);
}

std::string StatsTables(const StatsReply& now, const StatsReply* before) {
  Table exports(2, {"EXPORT", "REQUESTS", "/S", "MIB/S", "DEPTH", "P50", "P99",
                    "MAX", "ERRORS", ""});
  for (const ExportStats& item : now.exports()) {
    AddExport(item, Before(item, before), &exports);
  }
  Table nodes(2, {"NODE", "DRIVER", "READS", "MIB", "WRITES", "MIB", "FLUSHES",
                  "SHARED", "WAITS", "ERRORS", "CACHE HITS"});
  for (const NodeStats& item : now.nodes()) {
    AddNode(item, Before(item, before), &nodes);
  }
  return absl::StrCat(exports.Text(), "\n", nodes.Text());
}

}  // namespace bgfs::cli
