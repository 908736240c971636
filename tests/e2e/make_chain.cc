// Makes the chain of a seed in a folder and says what it made:
//
//   bgfs_make_chain FOLDER SEED
//
// prints the top image, the file with the expected bytes, and how it was made.

#include <cstdio>
#include <cstdlib>

#include "tests/drivers/qcow2/chain_gen.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bgfs_make_chain FOLDER SEED\n");
    return 2;
  }
  const auto chain =
      bgfs::qcow2::MakeChain(argv[1], std::strtoull(argv[2], nullptr, 10));
  if (!chain.ok()) {
    std::fprintf(stderr, "%s\n", chain.status().ToString().c_str());
    return 1;
  }
  std::printf("%s\n%s\n%s\n", chain->top.c_str(), chain->expected.c_str(),
              chain->description.c_str());
  return 0;
}
