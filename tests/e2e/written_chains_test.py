"""Chains written through the mount hold the bytes of a model, for QEMU too.

The model is a raw file on which each operation is done as well. A chain is
written by bgfs and by qemu-io in turns; after each turn the file, QEMU's
reading of the image and the model are the same, and `qemu-img check` finds
nothing.
"""

import concurrent.futures
import ctypes
import json
import os
import shutil

import images
from harness import LONG, MAKE_CHAIN, MIB, Test, main, per_form, run

CHAINS = per_form(10, 50, 300)
ROUNDS = 3 if LONG else 2
# Beyond it a disk is only a test of patience.
MOST = 1 << 30

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    _libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64,
                                ctypes.c_int64]
    if _libc.fallocate(fd, mode, offset, length) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"fallocate mode {mode:#x} {offset} +{length}: "
                      f"{os.strerror(error)}")


class Chain:
    """One chain, its model, and a generator of its own."""

    def __init__(self, test, seed, random):
        self.random = random
        self.folder = test.path(f"chain{seed}")
        self.folder.mkdir()
        out = run(MAKE_CHAIN, self.folder, seed, timeout=300).stdout
        top, model, self.description = out.split("\n", 2)
        self.top = self.folder / os.path.basename(top)
        self.model = self.folder / os.path.basename(model)
        info = json.loads(
            run("qemu-img", "info", "--output=json", self.top).stdout)
        self.cluster = info["cluster-size"]
        # Version 2 does not say how long the disk of a snapshot is.
        old = info["format-specific"]["data"]["compat"] == "0.10"
        self.resizable = (self.random.random() < 0.6 and
                          not (old and info.get("snapshots")))
        self.log = []
        self.others = {path: path.stat().st_mtime_ns
                       for path in self.folder.iterdir()
                       if path not in (self.top, self.model)}

    def size(self):
        return os.stat(self.model).st_size

    def pick(self, size):
        """A range within `size`, with a liking for clusters' borders."""
        draw = self.random
        unit = draw.choice([1, 512, 4096, self.cluster, self.cluster])
        length = draw.choice([1, 511, 4096, 65536, self.cluster,
                              draw.randrange(1, 4 * self.cluster + 1),
                              draw.randrange(1, MIB)])
        if unit > 1:
            length = max(unit, length // unit * unit)
        length = max(1, min(length, 4 * MIB, size))
        offset = draw.randrange(size - length + 1)
        return offset // unit * unit, length


class WrittenChains(Test):

    def test_chains_written_in_turns(self):
        first = self.seed % 1000 * 1000
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            made = [pool.submit(Chain, self, first + i,
                                type(self.random)(f"{self.seed} {i}"))
                    for i in range(CHAINS)]
            for future in made:
                chain = future.result()
                try:
                    self.exercise(chain)
                except Exception as error:
                    raise AssertionError(
                        f"{error}\n{chain.description}\n" +
                        "\n".join(chain.log)) from error
                shutil.rmtree(chain.folder)

    def exercise(self, chain):
        images.check(chain.top)
        for turn in range(ROUNDS):
            chain.log.append(f"turn {turn}: bgfs")
            self.write_with_bgfs(chain)
            self.compare_with_qemu(chain)
            chain.log.append(f"turn {turn}: qemu-io")
            self.write_with_qemu(chain)
            self.compare_with_qemu(chain)
        with self.mounted(chain.top, "--read-only") as file:
            self.compare(chain, file)
        for path, mtime in chain.others.items():
            self.assertEqual(path.stat().st_mtime_ns, mtime, path)

    def compare(self, chain, file):
        self.assertEqual(os.stat(file).st_size, chain.size())
        at = images.first_difference(file, chain.model, chain.size())
        self.assertIsNone(at, f"differs from the model at {at}")

    def compare_with_qemu(self, chain):
        images.check(chain.top)
        converted = images.converted(chain.folder, chain.top)
        size = chain.size() // 512 * 512
        self.assertEqual(os.stat(converted).st_size, size)
        at = images.first_difference(converted, chain.model, size)
        self.assertIsNone(at, f"QEMU reads something else at {at}")
        converted.unlink()

    def write_with_bgfs(self, chain):
        options = ["--resizable"] if chain.resizable else []
        with self.mounted(chain.top, *options) as file:
            disk = os.open(file, os.O_RDWR)
            model = os.open(chain.model, os.O_RDWR)
            try:
                for _ in range(chain.random.randrange(2, 8)):
                    self.write_in_parallel(chain, disk, model)
                    if chain.random.random() < 0.5:
                        os.fsync(disk)
                    if chain.resizable and chain.random.random() < 0.4:
                        self.resize(chain, disk, model)
                    if chain.random.random() < 0.3:
                        self.compare(chain, file)
            finally:
                os.close(disk)
                os.close(model)
            self.compare(chain, file)

    def write_in_parallel(self, chain, disk, model):
        """Some operations at once, none of which touches another's bytes."""
        size = os.fstat(model).st_size
        if size == 0:
            return
        taken = []
        operations = []
        for _ in range(chain.random.randrange(1, 16)):
            offset, length = chain.pick(size)
            if any(offset < end and start < offset + length
                   for start, end in taken):
                continue
            taken.append((offset, offset + length))
            kind = chain.random.choice(
                ["write", "write", "write", "punch", "zero", "reserve",
                 "fsync"])
            data = chain.random.randbytes(length) if kind == "write" else b""
            operations.append((kind, offset, length, data))
            chain.log.append(f"  {kind} {offset} +{length}")
        chain.log.append("  (those at once)")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda operation: apply(disk, *operation),
                          operations))
        for operation in operations:
            apply(model, *operation)

    def resize(self, chain, disk, model):
        draw = chain.random
        size = os.fstat(model).st_size
        new = draw.choice([
            draw.randrange(size + 1), size // 2, size + draw.randrange(MIB),
            size + chain.cluster, size + 8 * chain.cluster,
            max(0, size - draw.randrange(chain.cluster * 2))])
        if draw.random() < 0.7:
            new = new // 512 * 512
        new = min(new, MOST)
        how = draw.choice(["truncate", "truncate", "write", "reserve"])
        chain.log.append(f"  {how}: size {size} -> {new}")
        if how == "truncate" or new <= size:
            for fd in (disk, model):
                os.ftruncate(fd, new)
            return
        for fd in (disk, model):
            if how == "write":
                os.pwrite(fd, b"e", new - 1)
            else:
                start = max(0, new - MIB)
                fallocate(fd, 0, start, new - start)

    def write_with_qemu(self, chain):
        # QEMU knows whole sectors only, and may take what lies behind them for
        # the rest of the last cluster.
        size = chain.size()
        if size == 0 or size % 512:
            return
        commands = []
        model = os.open(chain.model, os.O_RDWR)
        try:
            for _ in range(chain.random.randrange(1, 6)):
                offset, length = chain.pick(size)
                pattern = chain.random.randrange(1, 256)
                kind = chain.random.choice(["write", "write", "-z", "-z -u"])
                if kind == "write":
                    commands.append(f"write -P {pattern} {offset} {length}")
                    os.pwrite(model, bytes([pattern]) * length, offset)
                else:
                    commands.append(f"write {kind} {offset} {length}")
                    apply(model, "punch", offset, length, b"")
        finally:
            os.close(model)
        chain.log += [f"  {command}" for command in commands]
        words = [word for command in commands for word in ("-c", command)]
        run("qemu-io", "-t", "unsafe", "-d", "unmap", "-f", "qcow2", *words,
            chain.top)


def apply(fd, kind, offset, length, data):
    if kind == "write":
        done = os.pwrite(fd, data, offset)
        if done != length:
            raise AssertionError(f"short write: {done} of {length}")
    elif kind == "punch":
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
    elif kind == "zero":
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, offset, length)
    elif kind == "reserve":
        fallocate(fd, KEEP_SIZE, offset, length)
    else:
        os.fsync(fd)


if __name__ == "__main__":
    main()
