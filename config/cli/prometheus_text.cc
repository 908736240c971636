#include "config/cli/prometheus_text.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "config/stats_message.h"
#include "graph/histogram.h"

namespace bgfs::cli {
namespace {

using control::OperationStats;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// The bounds that are told: 1 us to 34 s. All are bounds of the histogram's own
// buckets, so that what is told is exact.
constexpr int64_t kFirstBound = int64_t{1} << 10;
constexpr int64_t kLastBound = int64_t{1} << 35;

double Seconds(uint64_t ns) { return static_cast<double>(ns) / 1e9; }

std::string NameOf(OperationStats::Kind kind) {
  return absl::AsciiStrToLower(OperationStats::Kind_Name(kind));
}

// The families in the order of their first use.
class Families {
 public:
  void Count(const char* name, const char* help, const Labels& labels,
             double value) {
    ClientMetric& metric = Add(name, help, MetricType::Counter, labels);
    metric.counter.value = value;
  }
  void Gauge(const char* name, const char* help, const Labels& labels,
             double value) {
    ClientMetric& metric = Add(name, help, MetricType::Gauge, labels);
    metric.gauge.value = value;
  }
  void Latency(const char* name, const char* help, const Labels& labels,
               const Histogram& latency_ns) {
    ClientMetric::Histogram& told =
        Add(name, help, MetricType::Histogram, labels).histogram;
    told.sample_count = static_cast<uint64_t>(latency_ns.count());
    told.sample_sum = static_cast<double>(latency_ns.sum()) / 1e9;
    for (int64_t bound = kFirstBound; bound <= kLastBound; bound *= 2) {
      told.bucket.push_back({static_cast<uint64_t>(latency_ns.CountUpTo(bound)),
                             static_cast<double>(bound) / 1e9});
    }
  }

  std::string Text() const {
    return prometheus::TextSerializer().Serialize(families_);
  }

 private:
  ClientMetric& Add(const char* name, const char* help, MetricType type,
                    const Labels& labels) {
    MetricFamily* family = nullptr;
    for (MetricFamily& known : families_) {
      if (known.name == name) family = &known;
    }
    if (family == nullptr) {
      families_.emplace_back();
      family = &families_.back();
      family->name = name;
      family->help = help;
      family->type = type;
    }
    family->metric.emplace_back();
    family->metric.back().label = labels;
    return family->metric.back();
  }

  std::vector<MetricFamily> families_;
};

Labels With(Labels labels, const char* name, std::string value) {
  labels.push_back({name, std::move(value)});
  return labels;
}

void AddExport(const control::ExportStats& item, const Labels& pid,
               Families* to) {
  const Labels labels = With(pid, "export", item.id());
  for (const OperationStats& kind : item.operations()) {
    const Labels each = With(labels, "operation", NameOf(kind.kind()));
    to->Count("bgfs_export_operations_total",
              "Requests of clients that were answered, failed ones included.",
              each, static_cast<double>(kind.operations()));
    to->Count("bgfs_export_bytes_total", "Bytes of requests that succeeded.",
              each, static_cast<double>(kind.bytes()));
    to->Count("bgfs_export_errors_total", "Requests that failed.", each,
              static_cast<double>(kind.errors()));
    to->Latency("bgfs_export_latency_seconds",
                "How long clients waited for answers.", each,
                config::ToHistogram(kind.latency()));
  }
  to->Gauge("bgfs_export_in_flight", "Requests under way.", labels,
            static_cast<double>(item.in_flight()));
  to->Gauge("bgfs_export_in_flight_highest",
            "The most requests that were under way at once.", labels,
            static_cast<double>(item.max_in_flight()));
  to->Gauge("bgfs_export_parked", "Requests that wait for a change to end.",
            labels, static_cast<double>(item.parked_now()));
  to->Count("bgfs_export_parked_total",
            "Requests that waited for a change to end.", labels,
            static_cast<double>(item.parked_requests()));
  to->Count("bgfs_export_parked_seconds_total",
            "How long all of these waited, a part of their latency.", labels,
            Seconds(item.parked_total_ns()));
  to->Gauge("bgfs_export_stale",
            "1 if the export does not answer: what is told is old.", labels,
            item.stale() ? 1 : 0);
}

void AddCaches(const control::NodeStats& item, const Labels& labels,
               Families* to) {
  for (const control::CacheStats& cache : item.caches()) {
    const Labels each = With(labels, "cache", cache.name());
    to->Count("bgfs_node_cache_hits_total",
              "Times that a cache had what was wanted.", each,
              static_cast<double>(cache.hits()));
    to->Count("bgfs_node_cache_misses_total", "Times that it had to be read.",
              each, static_cast<double>(cache.misses()));
    to->Count("bgfs_node_cache_evictions_total",
              "Times that something made room for something else.", each,
              static_cast<double>(cache.evictions()));
  }
}

void AddNode(const control::NodeStats& item, const Labels& pid, Families* to) {
  const Labels labels =
      With(With(pid, "node", item.name()), "driver", item.driver());
  for (const OperationStats& kind : item.operations()) {
    const Labels each = With(labels, "operation", NameOf(kind.kind()));
    to->Count("bgfs_node_operations_total",
              "Requests that the node has served, failed ones included.", each,
              static_cast<double>(kind.operations()));
    to->Count("bgfs_node_bytes_total", "Bytes of requests that succeeded.",
              each, static_cast<double>(kind.bytes()));
    to->Count("bgfs_node_errors_total", "Requests that failed.", each,
              static_cast<double>(kind.errors()));
  }
  to->Count("bgfs_node_flushes_coalesced_total",
            "Flushes that were served by one which others had asked for too.",
            labels, static_cast<double>(item.flushes_coalesced()));
  to->Count("bgfs_node_serialising_waits_total",
            "Times that a request waited for another one in its way.", labels,
            static_cast<double>(item.serialising_waits()));
  to->Gauge("bgfs_node_highest_write_bytes",
            "Where the furthest write since it was opened ended.", labels,
            static_cast<double>(item.highest_write()));
  to->Gauge("bgfs_node_flush_failed",
            "1 if a flush has failed, and every later one will.", labels,
            item.failed_flush() != 0 ? 1 : 0);
  to->Gauge("bgfs_node_stale",
            "1 if the node does not answer: what is told is old.", labels,
            item.stale() ? 1 : 0);
  AddCaches(item, labels, to);
}

}  // namespace

std::string PrometheusText(const std::vector<control::StatsReply>& replies) {
  Families families;
  for (const control::StatsReply& reply : replies) {
    Labels pid;
    if (replies.size() > 1) pid.push_back({"pid", absl::StrCat(reply.pid())});
    for (const auto& item : reply.exports()) AddExport(item, pid, &families);
    for (const auto& item : reply.nodes()) AddNode(item, pid, &families);
  }
  return families.Text();
}

}  // namespace bgfs::cli
