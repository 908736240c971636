"""Files that answer EIO for a while: only the requests that met it fail, none
is answered wrongly, and later ones succeed.
"""

import concurrent.futures
import contextlib
import errno
import os

import images
from harness import FAULTY_FS, LONG, MIB, Test, bgfs, main, run

ROUNDS = 20 if LONG else 2
SIZE = 8 * MIB
CLUSTER = 65536
EVERYTHING = 1 << 40
MANY_TIMES = 1 << 30


class IoErrors(Test):

    @contextlib.contextmanager
    def faulty(self):
        """A folder whose files can fail; gives it and the folder behind."""
        behind, folder = self.path("behind"), self.path("faulty")
        behind.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        run(FAULTY_FS, behind, folder)
        try:
            yield folder, behind
        finally:
            run("umount", folder)

    def tell(self, folder, line):
        """A fault; see faulty_fs.cc."""
        with open(folder / "control", "w") as control:
            control.write(line)

    def failed_calls(self, folder):
        return int((folder / "control").read_text())

    def outcome(self, call, *arguments):
        """What a system call gives: (result, 0) or (None, errno)."""
        try:
            return call(*arguments), 0
        except OSError as error:
            return None, error.errno

    def in_parallel(self, call, jobs):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda job: self.outcome(call, *job), jobs))

    def ranges(self, count, most=200000):
        """Random ranges of the disk that do not touch each other."""
        chosen = []
        for _ in range(count):
            length = self.random.choice(
                [1, 512, 4096, CLUSTER, self.random.randrange(1, most)])
            offset = self.random.randrange(SIZE - length)
            if all(offset + length <= start or end <= offset
                   for start, end in chosen):
                chosen.append((offset, offset + length))
        return chosen

    def check_all(self, fd, model):
        for at in range(0, SIZE, MIB):
            self.assertEqual(os.pread(fd, MIB, at), bytes(model[at:at + MIB]))

    # --- A backing file -------------------------------------------------------

    def test_raw_backing_file(self):
        """Which requests need the base, and which part of it, is known."""
        with self.faulty() as (folder, behind):
            content = self.random.randbytes(SIZE)
            (behind / "base.img").write_bytes(content)
            top = self.path("top.qcow2")
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                folder / "base.img", top)
            model = bytearray(content)
            own = set()  # clusters of the overlay
            with self.mounted(top, f"--allow-implicit={folder}") as file:
                fd = os.open(file, os.O_RDWR)
                try:
                    for _ in range(ROUNDS):
                        first = self.random.randrange(SIZE // 2)
                        zone = (first, first + self.random.randrange(1, MIB))
                        self.tell(folder, f"read base.img {zone[0]} {zone[1]} "
                                  f"{MANY_TIMES}")
                        self.read_with_faults(fd, model, own, zone)
                        self.write_with_faults(fd, model, own, zone)
                        self.tell(folder, "clear")
                        self.check_all(fd, model)
                        os.fsync(fd)
                finally:
                    os.close(fd)
            self.check_image(top, model)

    def needs_base(self, own, start, end, zone):
        """Whether a byte of the range is both bad and the base's."""
        start, end = max(start, zone[0]), min(end, zone[1])
        return start < end and any(
            cluster not in own
            for cluster in range(start // CLUSTER, (end - 1) // CLUSTER + 1))

    def read_with_faults(self, fd, model, own, zone):
        ranges = self.ranges(40)
        answers = self.in_parallel(
            os.pread, [(fd, end - start, start) for start, end in ranges])
        for (start, end), (data, error) in zip(ranges, answers):
            if self.needs_base(own, start, end, zone):
                self.assertEqual(error, errno.EIO, f"{start} to {end}, {zone}")
            else:
                self.assertEqual(error, 0, f"{start} to {end}, {zone}")
                self.assertEqual(data, bytes(model[start:end]))

    def write_with_faults(self, fd, model, own, zone):
        """A write copies what it does not cover of its clusters."""
        for start, end in self.ranges(20):
            data = self.random.randbytes(end - start)
            first, last = start // CLUSTER, (end - 1) // CLUSTER
            head = (first * CLUSTER, start)
            tail = (end, (last + 1) * CLUSTER)
            bad = any(self.needs_base(own, *part, zone)
                      for part in (head, tail))
            done, error = self.outcome(os.pwrite, fd, data, start)
            if bad:
                self.assertEqual(error, errno.EIO, f"{start} to {end}, {zone}")
                # Whole clusters of it may have been written before.
                self.tell_what_is_there(fd, model, own, start, data, zone)
            else:
                self.assertEqual((done, error), (len(data), 0))
                model[start:end] = data
                own.update(range(first, last + 1))

    def tell_what_is_there(self, fd, model, own, start, data, zone):
        """After a write that failed, each cluster is wholly old or new."""
        end = start + len(data)
        for cluster in range(start // CLUSTER, (end - 1) // CLUSTER + 1):
            a = max(start, cluster * CLUSTER)
            b = min(end, (cluster + 1) * CLUSTER)
            new = data[a - start:b - start]
            found, error = self.outcome(os.pread, fd, b - a, a)
            if error == 0 and found == new != bytes(model[a:b]):
                model[a:b] = new
                own.add(cluster)
            elif error == 0:
                self.assertEqual(found, bytes(model[a:b]))
            else:
                self.assertEqual(error, errno.EIO)
                self.assertTrue(self.needs_base(own, a, b, zone))

    def test_compressed_backing_file(self):
        """Which of its bytes a request needs only QEMU knows."""
        with self.faulty() as (folder, behind):
            plain = images.compressed_base(self, SIZE)
            os.rename(plain, behind / "base.qcow2")
            top = self.path("top.qcow2")
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                folder / "base.qcow2", top)
            model = bytearray(images.converted(self.folder, top).read_bytes())
            size = os.stat(behind / "base.qcow2").st_size
            failed = 0
            with self.mounted(top, f"--allow-implicit={folder}") as file:
                fd = os.open(file, os.O_RDWR)
                try:
                    for _ in range(ROUNDS):
                        first = self.random.randrange(size)
                        self.tell(folder, f"read base.qcow2 {first} "
                                  f"{first + size // 4} {MANY_TIMES}")
                        failed += self.read_and_write(fd, model)
                        self.tell(folder, "clear")
                        self.check_all(fd, model)
                finally:
                    os.close(fd)
            self.assertGreater(failed, 0)
            self.check_image(top, model)

    def read_and_write(self, fd, model):
        """None is answered wrongly; gives how many failed."""
        failed = 0
        ranges = self.ranges(40)
        answers = self.in_parallel(
            os.pread, [(fd, end - start, start) for start, end in ranges])
        for (start, end), (data, error) in zip(ranges, answers):
            self.assertIn(error, (0, errno.EIO))
            failed += error != 0
            if error == 0:
                self.assertEqual(data, bytes(model[start:end]))
        # Inside one cluster, so that a write has been done or not.
        clusters = self.random.sample(range(SIZE // CLUSTER), 20)
        jobs = []
        for cluster in clusters:
            length = self.random.randrange(1, CLUSTER + 1)
            start = cluster * CLUSTER + self.random.randrange(
                CLUSTER - length + 1)
            jobs.append((fd, self.random.randbytes(length), start))
        for (_, data, start), (_, error) in zip(
                jobs, self.in_parallel(os.pwrite, jobs)):
            self.assertIn(error, (0, errno.EIO))
            failed += error != 0
            if error == 0:
                model[start:start + len(data)] = data
        return failed

    # --- The image itself -----------------------------------------------------

    def test_writes_of_the_image(self):
        """Data, tables and refcounts that cannot be written for a while."""
        with self.faulty() as (folder, behind):
            kind = self.random.choice(["empty", "small", "large"])
            images.make(self, kind, SIZE, "behind/disk.qcow2")
            model = bytearray(SIZE)
            with self.mounted(folder / "disk.qcow2") as file:
                fd = os.open(file, os.O_RDWR)
                try:
                    for _ in range(ROUNDS):
                        self.write_while_writes_fail(folder, fd, model)
                finally:
                    os.close(fd)
            self.check_image(behind / "disk.qcow2", model)

    def write_while_writes_fail(self, folder, fd, model):
        first, end = self.random.choice(
            [(0, EVERYTHING), (0, 8 * CLUSTER), (8 * CLUSTER, EVERYTHING)])
        jobs = [(fd, self.random.randbytes(b - a), a)
                for a, b in self.ranges(12)]
        early = self.random.random() < 0.5
        fault = (f"write disk.qcow2 {first} {end} "
                 f"{self.random.choice([1, 3, MANY_TIMES])}")
        if early:
            self.tell(folder, fault)
        answers = self.in_parallel(os.pwrite, jobs)
        if not early:
            self.assertEqual([error for _, error in answers],
                             [0] * len(jobs))
            self.tell(folder, fault)
        _, flushed = self.outcome(os.fsync, fd)
        if self.failed_calls(folder) == 0:
            self.assertEqual(flushed, 0)
        self.assertIn(flushed, (0, errno.EIO))
        self.tell(folder, "clear")
        for (_, data, start), (_, error) in zip(jobs, answers):
            self.assertIn(error, (0, errno.EIO))
            if error != 0:
                os.pwrite(fd, data, start)
            model[start:start + len(data)] = data
        os.fsync(fd)
        self.check_all(fd, model)

    def test_reads_of_the_image(self):
        with self.faulty() as (folder, behind):
            kind = self.random.choice(["empty", "small", "large"])
            image = images.make(self, kind, SIZE, "behind/disk.qcow2")
            model = bytearray(self.random.randbytes(SIZE))
            content = self.path("content")
            content.write_bytes(model)
            run("qemu-img", "convert", "-n", "-O", "qcow2", content, image)
            failed = 0
            for _ in range(ROUNDS):
                with self.mounted(folder / "disk.qcow2") as file:
                    fd = os.open(file, os.O_RDWR)
                    try:
                        self.tell(folder, f"read disk.qcow2 0 {EVERYTHING} "
                                  f"{self.random.choice([3, 10, 40])}")
                        failed += self.read_and_write(fd, model)
                        self.tell(folder, "clear")
                        self.check_all(fd, model)
                        os.fsync(fd)
                    finally:
                        os.close(fd)
            self.assertGreater(failed, 0)
            self.check_image(behind / "disk.qcow2", model)

    def test_a_failed_fsync_stays_failed_until_reopened(self):
        """The disk has told once that it lost something, and to whom."""
        with self.faulty() as (folder, behind):
            image = images.make(self, "empty", SIZE, "behind/disk.qcow2")
            point = self.path("mnt")
            point.mkdir()
            bgfs("mount", folder / "disk.qcow2", point)
            fd = os.open(point / "disk.raw", os.O_RDWR)
            try:
                os.pwrite(fd, b"safe" * 1024, 0)
                os.fsync(fd)
                os.pwrite(fd, b"lost" * 1024, MIB)
                self.tell(folder, "fsync disk.qcow2 0 0 1")
                for _ in range(3):
                    _, error = self.outcome(os.fsync, fd)
                    self.assertEqual(error, errno.EIO)
                self.assertEqual(self.failed_calls(folder), 1)
                self.assertEqual(os.pread(fd, 4096, 0), b"safe" * 1024)
            finally:
                os.close(fd)
            ended = bgfs("umount", point, check=False)
            self.assertNotEqual(ended.returncode, 0)
            self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
            bgfs("check", "--repair=leaks", image)
            with self.mounted(folder / "disk.qcow2") as file:
                with open(file, "r+b", buffering=0) as disk:
                    self.assertEqual(disk.read(4096), b"safe" * 1024)
                    disk.write(b"more")
                    os.fsync(disk.fileno())
            images.check(image)

    def check_image(self, image, model):
        images.check(image)
        self.assertEqual(images.converted(self.folder, image).read_bytes(),
                         bytes(model))


if __name__ == "__main__":
    main()
