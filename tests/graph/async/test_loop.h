// What the tests of graph/async share: a running loop.

#ifndef BGFS_TESTS_GRAPH_ASYNC_TEST_LOOP_H_
#define BGFS_TESTS_GRAPH_ASYNC_TEST_LOOP_H_

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "graph/async/make_loop.h"
#include "gtest/gtest.h"

namespace bgfs {

inline std::unique_ptr<HostLoop> StartLoop(const std::string& name = "test") {
  auto loop = MakeLoop(name);
  if (!loop.ok()) {
    ADD_FAILURE() << loop.status();
    std::abort();
  }
  return *std::move(loop);
}

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_ASYNC_TEST_LOOP_H_
