"""A qcow2 image on a file system that fills up: ENOSPC to those who asked for
space, nothing else harmed, and all goes on when there is space again.
"""

import contextlib
import errno
import os
import threading

import images
from harness import MIB, Test, bgfs, main, per_form, run

ROUNDS = per_form(3, 10, 50)
SIZE = 24 * MIB
WRITERS = 3
REGION = 8 * MIB  # of each writer; the first MiB of it is written beforehand
FREE = 6 * MIB


class Writer:
    """Writes random ranges of its region, and keeps a model of it."""

    def __init__(self, fd, index, seed, random, original):
        self.fd = fd
        self.random = random(f"{seed} {index}")
        self.begin = index * REGION
        self.model = bytearray(original[self.begin:self.begin + REGION])
        self.unsure = []  # (offset, data) that was refused, the oldest first
        self.refused = 0
        self.error = None

    def write(self, offset, data):
        try:
            done = os.pwrite(self.fd, data, self.begin + offset)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.refused += 1
            self.unsure.append((offset, data))
            return
        if done != len(data):
            raise AssertionError(f"short write: {done} of {len(data)}")
        self.model[offset:offset + len(data)] = data

    def flush(self):
        try:
            os.fsync(self.fd)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def write_much(self):
        try:
            for turn in range(1000):
                if self.refused and turn % 20 == 0 and turn > 100:
                    return
                length = self.random.choice(
                    [1, 4096, 5000, 65536, 200000, 400000])
                offset = self.random.randrange(MIB, REGION - length)
                self.write(offset, self.random.randbytes(length))
                if self.random.random() < 0.1:
                    self.flush()
        except BaseException as error:
            self.error = error

    def check(self, sure):
        """What was written is there; what was refused, wholly, partly or not
        at all, unless it was written again."""
        found = os.pread(self.fd, REGION, self.begin)
        if sure and found != self.model:
            raise AssertionError("what was written is not there")
        for at in range(0, REGION, 512):
            if found[at:at + 512] != self.model[at:at + 512]:
                self.explain(found, at)
        self.model[:] = found

    def explain(self, found, sector):
        """How a sector came to be that is not what the writes that succeeded
        have made of it."""
        near = [(offset, data) for offset, data in self.unsure
                if offset < sector + 512 and sector < offset + len(data)]
        for offset, data in near:
            start = max(sector, offset)
            end = min(sector + 512, offset + len(data))
            if (found[start:end] == data[start - offset:end - offset] and
                    found[sector:start] == self.model[sector:start] and
                    found[end:sector + 512] == self.model[end:sector + 512]):
                return
        for at in range(sector, sector + 512):
            allowed = {self.model[at]}
            allowed.update(data[at - offset] for offset, data in near
                           if offset <= at < offset + len(data))
            if found[at] not in allowed:
                raise AssertionError(f"differs at {self.begin + at}")

    def write_again(self):
        for offset, data in self.unsure:
            done = os.pwrite(self.fd, data, self.begin + offset)
            assert done == len(data)
            self.model[offset:offset + len(data)] = data
        self.unsure = []


class Qcow2FullDisk(Test):

    def test_enospc_and_after(self):
        for number in range(ROUNDS):
            kind = self.random.choice(list(images.KINDS))
            disk = self.random.choice(["tmpfs", "ext4"])
            stays_full = self.random.random() < 0.3
            with self.subTest(f"{number}: {kind} on {disk}, stays full: "
                              f"{stays_full}"):
                with self.small(disk, number) as point:
                    self.fill_up(kind, point, number, stays_full)

    @contextlib.contextmanager
    def small(self, disk, number):
        """A file system of 64 MiB."""
        point = self.path(f"small{number}")
        point.mkdir()
        if disk == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", point)
            try:
                yield point
            finally:
                run("umount", point)
            return
        image = self.raw_image("fs.img", 64 * MIB)
        run("mkfs.ext4", "-q", "-m", "0", "-F", image)
        with self.loop_device(image) as device, \
                self.file_system(device, point.name):
            yield point

    def fill_up(self, kind, point, number, stays_full):
        image = images.make(self, kind, SIZE, f"{point.name}/disk.qcow2")
        before = images.converted(self.folder, image)
        original = before.read_bytes()
        ballast = point / "ballast"
        folder = self.path(f"mnt{number}")
        folder.mkdir()
        options = [f"--allow-implicit={self.folder}", image, folder]
        bgfs("mount", *options)
        try:
            file = folder / os.listdir(folder)[0]
            fd = os.open(file, os.O_RDWR)
            try:
                writers = self.write_until_full(fd, original, ballast, point)
                if not stays_full:
                    ballast.unlink()
                    self.go_on(writers)
            finally:
                os.close(fd)
        except BaseException:
            bgfs("umount", "--force", folder, check=False)
            raise
        ended = bgfs("umount", folder, check=not stays_full)
        if stays_full:
            self.check_after_a_full_end(image, ballast, options, writers,
                                        ended)
        images.check(image)
        after = images.converted(self.folder, image).read_bytes()
        for writer in writers:
            self.assertEqual(after[writer.begin:writer.begin + REGION],
                             writer.model)

    def write_until_full(self, fd, original, ballast, point):
        writers = [Writer(fd, i, self.random.random(), type(self.random),
                          original) for i in range(WRITERS)]
        for writer in writers:
            for offset in range(0, MIB, MIB // 4):
                writer.write(offset, self.random.randbytes(MIB // 4))
        os.fsync(fd)
        self.assertEqual([w.refused for w in writers], [0] * WRITERS)
        free = os.statvfs(point)
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0,
                               free.f_bavail * free.f_bsize - FREE)
        threads = [threading.Thread(target=writer.write_much)
                   for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            if writer.error:
                raise writer.error
        self.assertGreater(sum(writer.refused for writer in writers), 0)
        for writer in writers:
            writer.check(sure=False)
        return writers

    def go_on(self, writers):
        for writer in writers:
            writer.write_again()
        os.fsync(writers[0].fd)
        for writer in writers:
            writer.check(sure=True)

    def check_after_a_full_end(self, image, ballast, options, writers, ended):
        """What was fsynced is there; the end says when something is not."""
        done = run("qemu-img", "check", "-f", "qcow2", image, check=False)
        self.assertIn(done.returncode, (0, 3), done.stdout + done.stderr)
        ballast.unlink()
        bgfs("mount", *options)
        folder = options[-1]
        fd = os.open(folder / os.listdir(folder)[0], os.O_RDWR)
        try:
            for writer in writers:
                writer.fd = fd
                found = os.pread(fd, REGION, writer.begin)
                self.assertEqual(found[:MIB], writer.model[:MIB])
                if ended.returncode == 0:
                    self.assertEqual(found, writer.model)
                writer.model[:] = found
                writer.write_again()
        finally:
            os.close(fd)
            bgfs("umount", folder)
        bgfs("check", "--repair=leaks", image)


if __name__ == "__main__":
    main()
