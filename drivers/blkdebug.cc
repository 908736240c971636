#include "drivers/blkdebug.h"

#include <algorithm>
#include <utility>

namespace bgfs {

// --- Rules -------------------------------------------------------------------

template <typename Rule>
BlkdebugDriver::CountedRules<Rule> BlkdebugDriver::Count(
    std::vector<Rule> rules) {
  CountedRules<Rule> counted;
  for (Rule& rule : rules) {
    watched_ |= rule.when.operations;
    counted.push_back({std::move(rule)});
  }
  return counted;
}

void BlkdebugDriver::SetRules(BlkdebugRules rules) {
  watched_ = 0;
  errors_ = Count(std::move(rules.errors));
  delays_ = Count(std::move(rules.delays));
  suspends_ = Count(std::move(rules.suspends));
  LetAllGo();
}

template <typename Rule>
const Rule* BlkdebugDriver::Meet(CountedRules<Rule>* rules,
                                 BlkdebugOperation operation,
                                 const Range& range) {
  const bool all = operation == BlkdebugOperation::kFlush ||
                   operation == BlkdebugOperation::kTruncate;
  const Rule* due = nullptr;
  for (Counted<Rule>& counted : *rules) {
    const BlkdebugRules::When& when = counted.rule.when;
    const bool there =
        all ? when.range.Contains(range) : when.range.Overlaps(range);
    if (!there || (when.operations & BlkdebugRules::Bit(operation)) == 0) {
      continue;
    }
    const int64_t before = counted.met++;
    if (due == nullptr && before >= when.skip &&
        before - when.skip < when.times) {
      due = &counted.rule;
    }
  }
  return due;
}

Task<IoStatus> BlkdebugDriver::MeetAll(BlkdebugOperation operation,
                                       Range range) {
  Loop* const loop = Loop::Current();
  if (drains_ == 0) {
    if (const auto* rule = Meet(&suspends_, operation, range)) {
      co_await Hold(/*suspended=*/true, rule->tag, Alarm::kNever);
    }
  }
  if (drains_ == 0) {
    if (const auto* rule = Meet(&delays_, operation, range)) {
      co_await Hold(/*suspended=*/false, "", loop->NowNs() + rule->delay_ns);
    }
  }
  const auto* rule = Meet(&errors_, operation, range);
  if (rule == nullptr) co_return IoStatus();
  const IoStatus status = IoError(rule->error);
  if (!rule->immediately) co_await loop->Yield();
  co_return status;
}

// --- What is held back -------------------------------------------------------

Task<void> BlkdebugDriver::Hold(bool suspended, std::string tag,
                                int64_t deadline_ns) {
  Held held{suspended, std::move(tag)};
  held_.push_back(&held);
  co_await held.alarm.SleepUntil(deadline_ns);
  std::erase(held_, &held);
}

void BlkdebugDriver::LetGo(Held* held) {
  held->let_go = true;
  held->alarm.Ring();
}

void BlkdebugDriver::LetAllGo() {
  for (Held* held : held_) LetGo(held);
}

bool BlkdebugDriver::Resume(absl::string_view tag) {
  bool any = false;
  for (Held* held : held_) {
    if (!held->suspended || held->let_go || held->tag != tag) continue;
    LetGo(held);
    any = true;
  }
  return any;
}

bool BlkdebugDriver::IsSuspended(absl::string_view tag) const {
  return std::any_of(held_.begin(), held_.end(), [tag](const Held* held) {
    return held->suspended && !held->let_go && held->tag == tag;
  });
}

void BlkdebugDriver::OnDrainBegin() {
  ++drains_;
  LetAllGo();
}

// --- What is intercepted -----------------------------------------------------

// Not a coroutine: what no rule is about takes no frame for it.
Task<IoStatus> BlkdebugDriver::Debug(BlkdebugOperation operation, Range range,
                                     Task<IoStatus> then) {
  if (!IsWatched(operation)) return then;
  return MeetRules(operation, range, std::move(then));
}

Task<IoStatus> BlkdebugDriver::MeetRules(BlkdebugOperation operation,
                                         Range range, Task<IoStatus> then) {
  BGFS_CO_TRY(co_await MeetAll(operation, range));
  co_return co_await std::move(then);
}

Task<IoStatus> BlkdebugDriver::Read(Request& request, int64_t offset,
                                    IoView data) {
  return Debug(BlkdebugOperation::kRead, {offset, data.size()},
               FilterDriver::Read(request, offset, data));
}

Task<IoStatus> BlkdebugDriver::Write(Request& request, int64_t offset,
                                     IoView data) {
  return Debug(BlkdebugOperation::kWrite, {offset, data.size()},
               FilterDriver::Write(request, offset, data));
}

Task<IoStatus> BlkdebugDriver::Zero(Request& request, int64_t offset,
                                    int64_t bytes, RequestFlags flags) {
  return Debug(BlkdebugOperation::kZero, {offset, bytes},
               FilterDriver::Zero(request, offset, bytes, flags));
}

Task<IoStatus> BlkdebugDriver::Discard(Request& request, int64_t offset,
                                       int64_t bytes) {
  return Debug(BlkdebugOperation::kDiscard, {offset, bytes},
               FilterDriver::Discard(request, offset, bytes));
}

Task<IoStatus> BlkdebugDriver::Reserve(Request& request, int64_t offset,
                                       int64_t bytes) {
  return Debug(BlkdebugOperation::kReserve, {offset, bytes},
               FilterDriver::Reserve(request, offset, bytes));
}

Task<IoStatus> BlkdebugDriver::Truncate(Request& request, int64_t size_bytes,
                                        Preallocation preallocation) {
  return Debug(BlkdebugOperation::kTruncate, kEverything,
               FilterDriver::Truncate(request, size_bytes, preallocation));
}

Task<IoStatus> BlkdebugDriver::FlushToOs() {
  return Debug(BlkdebugOperation::kFlush, kEverything,
               FilterDriver::FlushToOs());
}

Task<IoResult<BlockStatus>> BlkdebugDriver::Status(Request& request,
                                                   int64_t offset,
                                                   int64_t bytes,
                                                   bool precise) {
  if (IsWatched(BlkdebugOperation::kBlockStatus)) {
    const IoStatus status =
        co_await MeetAll(BlkdebugOperation::kBlockStatus, {offset, bytes});
    if (!status.ok()) co_return status;
  }
  co_return co_await FilterDriver::Status(request, offset, bytes, precise);
}

void BlkdebugDriver::RefreshLimits(Limits* limits) {
  const auto set = [](int64_t wanted, int64_t* limit) {
    if (wanted > 0) *limit = wanted;
  };
  set(options_.align, &limits->request_alignment);
  if (limits->max_transfer == 0 ||
      options_.max_transfer < limits->max_transfer) {
    set(options_.max_transfer, &limits->max_transfer);
  }
  set(options_.opt_write_zero, &limits->pwrite_zeroes_alignment);
  set(options_.max_write_zero, &limits->max_pwrite_zeroes);
  set(options_.opt_discard, &limits->pdiscard_alignment);
  set(options_.max_discard, &limits->max_pdiscard);
}

}  // namespace bgfs
