#include "config/stats_message.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "graph/statistics.h"

namespace bgfs::config {
namespace {

using control::OperationStats;

uint64_t Unsigned(int64_t value) {
  return static_cast<uint64_t>(std::max<int64_t>(0, value));
}

// Far from where a sum of some histograms would overflow.
constexpr uint64_t kMostNs = uint64_t{1} << 59;
constexpr uint64_t kMostInBucket = uint64_t{1} << 44;

int64_t Cut(uint64_t value, uint64_t most) {
  return static_cast<int64_t>(std::min(value, most));
}

OperationStats* Add(OperationStats::Kind kind, const OperationCounts& counts,
                    google::protobuf::RepeatedPtrField<OperationStats>* to) {
  OperationStats* item = to->Add();
  item->set_kind(kind);
  item->set_operations(Unsigned(counts.operations));
  item->set_bytes(Unsigned(counts.bytes));
  item->set_errors(Unsigned(counts.errors));
  return item;
}

void AddTimed(OperationStats::Kind kind, const BackendStatistics::Timed& timed,
              control::ExportStats* to) {
  const Histogram& histogram = timed.latency_ns;
  control::LatencyStats* latency =
      Add(kind, timed, to->mutable_operations())->mutable_latency();
  latency->set_sum_ns(Unsigned(histogram.sum()));
  latency->set_max_ns(Unsigned(histogram.max()));
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    if (histogram.counts()[i] == 0) continue;
    control::LatencyStats::Bucket* bucket = latency->add_buckets();
    bucket->set_up_to_ns(Unsigned(Histogram::BoundOf(i)));
    bucket->set_count(Unsigned(histogram.counts()[i]));
  }
}

}  // namespace

control::ExportStats ToMessage(const BlockExport& block_export) {
  Backend& backend = block_export.backend();
  const BackendStatistics& statistics = backend.statistics();
  control::ExportStats message;
  message.set_id(block_export.id());
  message.set_node(backend.node().name());
  message.set_begun_ns(Unsigned(backend.made_ns()));
  message.set_taken_ns(Unsigned(backend.home().NowNs()));
  AddTimed(OperationStats::READ, statistics.reads, &message);
  AddTimed(OperationStats::WRITE, statistics.writes, &message);
  AddTimed(OperationStats::ZERO, statistics.zeros, &message);
  AddTimed(OperationStats::DISCARD, statistics.discards, &message);
  AddTimed(OperationStats::COPY, statistics.copies, &message);
  AddTimed(OperationStats::TRUNCATE, statistics.truncates, &message);
  AddTimed(OperationStats::FLUSH, statistics.flushes, &message);
  message.set_in_flight(Unsigned(backend.in_flight().count()));
  message.set_max_in_flight(Unsigned(statistics.max_in_flight));
  const BackendStatistics::Parked& parked = statistics.parked;
  message.set_parked_now(Unsigned(parked.now));
  message.set_parked_requests(Unsigned(parked.requests));
  message.set_parked_total_ns(Unsigned(parked.total_ns));
  message.set_parked_longest_ns(Unsigned(parked.longest_ns));
  return message;
}

control::NodeStats ToMessage(const Node& node) {
  const NodeStatistics& statistics = node.statistics();
  control::NodeStats message;
  message.set_name(node.name());
  message.set_driver(std::string(node.driver().format_name()));
  message.set_taken_ns(Unsigned(node.home().NowNs()));
  auto* operations = message.mutable_operations();
  Add(OperationStats::READ, statistics.reads, operations);
  Add(OperationStats::WRITE, statistics.writes, operations);
  Add(OperationStats::ZERO, statistics.zeros, operations);
  Add(OperationStats::DISCARD, statistics.discards, operations);
  Add(OperationStats::COPY, statistics.copies, operations);
  Add(OperationStats::TRUNCATE, statistics.truncates, operations);
  Add(OperationStats::FLUSH, statistics.flushes, operations);
  message.set_flushes_coalesced(Unsigned(statistics.flushes_coalesced));
  message.set_serialising_waits(Unsigned(statistics.serialising_waits));
  message.set_highest_write(Unsigned(node.highest_write()));
  DriverStatistics own;
  node.driver().AddStatistics(&own);
  for (const CacheStatistics& cache : own.caches) {
    control::CacheStats* item = message.add_caches();
    item->set_name(std::string(cache.name));
    item->set_hits(Unsigned(cache.hits));
    item->set_misses(Unsigned(cache.misses));
    item->set_evictions(Unsigned(cache.evictions));
  }
  message.set_failed_flush(own.failed_flush.error());
  return message;
}

Histogram ToHistogram(const control::LatencyStats& latency) {
  Histogram histogram;
  size_t buckets = 0;
  for (const control::LatencyStats::Bucket& bucket : latency.buckets()) {
    if (++buckets > Histogram::kBuckets) break;
    histogram.AddBucket(Cut(bucket.up_to_ns(), kMostNs),
                        Cut(bucket.count(), kMostInBucket));
  }
  histogram.AddSum(Cut(latency.sum_ns(), kMostNs),
                   Cut(latency.max_ns(), kMostNs));
  return histogram;
}

}  // namespace bgfs::config
