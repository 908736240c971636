// A thread to which the kernel denies a system call, as a container's seccomp
// filter does. Threads that it starts inherit that.

#ifndef BGFS_TESTS_GRAPH_ASYNC_DENY_H_
#define BGFS_TESTS_GRAPH_ASYNC_DENY_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cstddef>
#include <functional>
#include <thread>

#include "gtest/gtest.h"

namespace bgfs {

inline void RunDenied(int number, int error,
                      const std::function<void()>& body) {
  std::thread([number, error, &body] {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(number), 0, 1),
        BPF_STMT(BPF_RET | BPF_K,
                 SECCOMP_RET_ERRNO | static_cast<__u32>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program = {4, filter};
    ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    body();
  }).join();
}

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_ASYNC_DENY_H_
