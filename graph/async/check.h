// BGFS_CHECK(condition): a bug stops the process in every build, with the
// place and the condition printed. Never used for bad image data or a bad
// configuration.

#ifndef BGFS_GRAPH_ASYNC_CHECK_H_
#define BGFS_GRAPH_ASYNC_CHECK_H_

namespace bgfs {

[[noreturn]] void CheckFailed(const char* file, int line,
                              const char* condition);

}  // namespace bgfs

#define BGFS_CHECK(condition)         \
  (__builtin_expect(!!(condition), 1) \
       ? static_cast<void>(0)         \
       : ::bgfs::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // BGFS_GRAPH_ASYNC_CHECK_H_
