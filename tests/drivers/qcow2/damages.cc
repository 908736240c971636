#include "tests/drivers/qcow2/damages.h"

#include <cstdint>
#include <string>

namespace bgfs::qcow2 {
namespace {

constexpr uint64_t kCluster = CheckableImage::kCluster;
constexpr uint64_t kTable = CheckableImage::kTable;

const std::vector<Damage> kDamages = {
    {"Nothing", [](CheckableImage&) {}, "", Verdict::kClean},
    {"Leak", [](CheckableImage& i) { i.SetRefcount(7, 3); }, "leak 1",
     Verdict::kLeaks},
    {"LeakOfAnUnusedCluster",
     [](CheckableImage& i) {
       i.SetRefcount(8, 1);
       i.Resize(9 * kCluster);
     },
     "leak 1", Verdict::kLeaks},
    {"LeaksOfWhatIsUsedOnce",
     [](CheckableImage& i) {
       i.SetL2(0, 5 * kCluster);
       i.SetL2(1, 6 * kCluster | kEntryZero);
       i.SetRefcount(5, 2);
       i.SetRefcount(6, 2);
     },
     "leak 2", Verdict::kLeaks},
    {"CountPastTheEndOfTheFile",
     [](CheckableImage& i) { i.SetRefcount(100, 1); }, "", Verdict::kClean},
    {"CountTooLow", [](CheckableImage& i) { i.SetRefcount(7, 1); },
     "refcount too low 1", Verdict::kCorrupt},
    {"CountZero", [](CheckableImage& i) { i.SetRefcount(5, 0); },
     "refcount too low 1, COPIED set 1", Verdict::kCorrupt},
    {"CopiedClearInL1", [](CheckableImage& i) { i.SetL1(0, 2 * kCluster); },
     "COPIED clear 1", Verdict::kCorrupt},
    {"CopiedClearInL2", [](CheckableImage& i) { i.SetL2(0, 5 * kCluster); },
     "COPIED clear 1", Verdict::kCorrupt},
    {"CopiedSetAtTwo",
     [](CheckableImage& i) {
       i.SetL2(4, kEntryCopied | 5 * kCluster);
       i.SetRefcount(5, 2);
     },
     "COPIED set 2", Verdict::kCorrupt},
    {"CopiedAndCompressed",
     [](CheckableImage& i) {
       i.SetL2(2, kEntryCopied | kEntryCompressed | 7 * kCluster);
     },
     "bad entry 1", Verdict::kCorrupt, "", /*qemu_agrees=*/false},
    {"ReservedBitsInL1",
     [](CheckableImage& i) { i.SetL1(0, kEntryCopied | 2 * kCluster | 2); },
     "reserved bits 1", Verdict::kCorrupt, "reserved bits 1"},
    {"ReservedBitsInL2",
     [](CheckableImage& i) { i.SetL2(0, kEntryCopied | 5 * kCluster | 2); },
     "reserved bits 1", Verdict::kCorrupt, "reserved bits 1"},
    {"L2TableNotAligned",
     [](CheckableImage& i) { i.SetL1(0, kEntryCopied | (2 * kCluster + 512)); },
     "leak 3, refcount too low 1, refcount table 1, misaligned 1, overlap 1",
     Verdict::kCorrupt, "misaligned 1"},
    {"DataNotAligned",
     [](CheckableImage& i) { i.SetL2(0, kEntryCopied | (5 * kCluster + 512)); },
     "refcount too low 1, misaligned 1", Verdict::kCorrupt, "misaligned 1"},
    {"L2TableOutOfTheFile",
     [](CheckableImage& i) { i.SetL1(0, kEntryCopied | uint64_t{1} << 40); },
     "leak 4, COPIED set 1, out of file 1", Verdict::kCorrupt, "out of file 1"},
    {"DataOutOfTheFile",
     [](CheckableImage& i) { i.SetL2(0, kEntryCopied | 8 * kCluster); },
     "leak 1, COPIED set 1, out of file 1", Verdict::kCorrupt, "out of file 1"},
    {"CompressedDataOutOfTheFile",
     [](CheckableImage& i) { i.SetCompressed(2, uint64_t{1} << 30, 1); },
     "leak 1, out of file 1", Verdict::kCorrupt, "out of file 1"},
    {"CompressedDataPastTheLastCluster",
     [](CheckableImage& i) {
       i.SetCompressed(2, 7 * kCluster + 4000, 4);
       i.SetRefcount(8, 1);
     },
     "", Verdict::kClean},
    {"DataOnTheRefcountBlock",
     [](CheckableImage& i) {
       i.SetL2(0, 4 * kCluster);
       i.SetRefcount(4, 2);
       i.SetRefcount(5, 0);
     },
     "refcount table 1, overlap 1", Verdict::kCorrupt},
    {"TwoTablesAtOnePlace",
     [](CheckableImage& i) {
       i.header.l1_size = 2;
       i.SetL1(1, kTable);
       i.SetRefcount(3, 2);
     },
     "refcount too low 1, refcount table 2, COPIED clear 1, overlap 2",
     Verdict::kCorrupt},
    {"OneL2TableTwice",
     [](CheckableImage& i) {
       i.header.l1_size = 2;
       i.SetL1(0, 2 * kCluster);
       i.SetL1(1, 2 * kCluster);
       i.SetL2(0, 5 * kCluster);
       i.SetL2(1, 6 * kCluster | kEntryZero);
       for (uint64_t c : {2, 5, 6}) i.SetRefcount(c, 2);
       i.SetRefcount(7, 4);
     },
     "", Verdict::kClean},
    {"RefcountTableEntryWithReservedBits",
     [](CheckableImage& i) { i.SetWord(kTable, 4 * kCluster | 1); },
     "leak 1, refcount table 1", Verdict::kCorrupt, "", /*qemu_agrees=*/false},
    {"RefcountTableEntryOutOfTheFile",
     [](CheckableImage& i) { i.SetWord(kTable, uint64_t{1} << 40); },
     "refcount too low 7, refcount table 1, COPIED set 3", Verdict::kCorrupt},
    {"RefcountTableEntryTwice",
     [](CheckableImage& i) { i.SetWord(kTable + 8, 4 * kCluster); },
     "refcount too low 1, refcount table 2, overlap 1", Verdict::kCorrupt},
    {"NoRefcountBlock", [](CheckableImage& i) { i.SetWord(kTable, 0); },
     "refcount too low 7, COPIED set 3", Verdict::kCorrupt},
    {"NoRefcountTable",
     [](CheckableImage& i) { i.header.refcount_table_clusters = 0; },
     "refcount too low 6, COPIED set 3", Verdict::kCorrupt},
    {"ZeroFlagInVersion2",
     [](CheckableImage& i) {
       i.header.version = 2;
       i.SetL2(1, kEntryCopied | 6 * kCluster | kEntryZero);
     },
     "bad entry 1", Verdict::kClean, "bad entry 1"},
    {"Dirty", [](CheckableImage& i) { i.header.incompatible = 1; },
     "marked dirty 1", Verdict::kClean},
    {"Corrupt", [](CheckableImage& i) { i.header.incompatible = 2; },
     "marked corrupt 1", Verdict::kClean},
    {"L1OutOfTheFile",
     [](CheckableImage& i) { i.header.l1_offset = uint64_t{1} << 40; },
     "leak 5, out of file 1", Verdict::kCorrupt, "out of file 1"},
    {"ReservedClusterOfZerosNotAligned",
     [](CheckableImage& i) {
       i.SetL2(1, kEntryCopied | (6 * kCluster + 512) | kEntryZero);
     },
     "refcount too low 1, misaligned 1", Verdict::kCorrupt},
    {"MoreReferencesThanACountHolds",
     [](CheckableImage& i) {
       i.header.refcount_order = 0;
       i.Put(CheckableImage::kBlock, std::vector<uint8_t>(16));
       i.Put(CheckableImage::kBlock, {0xff});
     },
     "refcount overflow 1", Verdict::kCorrupt, "refcount overflow 1"},
    {"EncryptionHeader",
     [](CheckableImage& i) {
       std::string data(16, '\0');
       data[6] = '\x80';  // at cluster 8, 5000 bytes
       data[14] = 5000 >> 8;
       data[15] = static_cast<char>(5000 & 255);
       i.header.extensions = {{kExtensionCryptHeader, data}};
       i.SetRefcount(8, 1);
       i.SetRefcount(9, 2);
       i.Resize(10 * kCluster);
     },
     "leak 1", Verdict::kUnusable},
};

}  // namespace

void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.name; }

const std::vector<Damage>& Damages() { return kDamages; }

}  // namespace bgfs::qcow2
