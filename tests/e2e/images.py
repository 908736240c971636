"""qcow2 images for the tests that write to them, and what must hold after."""

import os
import pathlib

from harness import MIB, run

# What a writable image may look like: the options of its creation, and whether
# it lies over a compressed base.
KINDS = {
    "empty": ([], False),
    "overlay": ([], True),
    "small": (["-o", "cluster_size=512"], False),
    "large": (["-o", "cluster_size=2M"], False),
    "small-overlay": (["-o", "cluster_size=512"], True),
    "large-overlay": (["-o", "cluster_size=2M"], True),
}

GRAPH = """
nodes {{
  node_name: "disk"
  discard: UNMAP
  qcow2 {{ file {{ filename: "{image}" cache {{ direct: {direct} }} }} }}
}}
exports {{ id: "disk" node: "disk" writable: true
          fuse {{ resizable: {resizable} }} }}
exports {{ id: "view" node: "disk" fuse {{}} }}
"""


def graph(image, direct=False, resizable=False):
    """One image shown twice: "disk" can be written, "view" only read."""
    return GRAPH.format(image=image, direct=str(direct).lower(),
                        resizable=str(resizable).lower())


def make(test, kind, size, name="disk.qcow2"):
    """A new image of one of KINDS in the test's folder, or below it; its base
    is in the test's folder."""
    options, overlay = KINDS[kind]
    path = test.path(name)
    if overlay:
        options = [*options, "-b", compressed_base(test, size), "-F", "qcow2"]
    run("qemu-img", "create", "-q", "-f", "qcow2", *options, path, size)
    return path


def compressed_base(test, size):
    """An image whose every cluster is compressed, of a disk of `size`."""
    path = test.path("base.qcow2")
    if path.exists():
        return path
    content = test.path("base.raw")
    with open(content, "wb") as file:
        for at in range(0, size, 65536):
            piece = test.random.randbytes(4096) * 16
            file.write(piece[:min(size - at, 65536)])
    run("qemu-img", "convert", "-c", "-W", "-O", "qcow2", content, path)
    content.unlink()
    return path


def check(image):
    """QEMU finds nothing wrong with the image, and nothing leaked."""
    done = run("qemu-img", "check", "-f", "qcow2", image, check=False,
               timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"qemu-img check {image}: exit status "
                             f"{done.returncode}\n{done.stdout[-4000:]}"
                             f"{done.stderr[-4000:]}")


def data_ranges(fd, size):
    """Where a file has data, as far as it tells: [(start, end)]."""
    found = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: none from there on
            break
        at = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        if start < at:
            found.append((start, at))
    return found


def first_difference(a, b, size):
    """The first offset below `size` where two files differ, or None.

    Reads what either of them calls data, and a little of the holes of both.
    """
    files = [os.open(path, os.O_RDONLY) for path in (a, b)]
    try:
        if size <= 32 * MIB:
            ranges = [(0, size)]
        else:
            ranges = [r for fd in files for r in data_ranges(fd, size)]
            ranges += [(at, min(size, at + 4096))
                       for at in range(0, size, 8 * MIB)]
        for start, end in ranges:
            for at in range(start, end, MIB):
                length = min(MIB, end - at)
                one, other = (os.pread(fd, length, at) for fd in files)
                if one != other:
                    return at + next(
                        (i for i, (x, y) in enumerate(zip(one, other))
                         if x != y), min(len(one), len(other)))
        return None
    finally:
        for fd in files:
            os.close(fd)


def converted(folder, image):
    """The image as QEMU reads it, as a raw file."""
    path = pathlib.Path(folder) / "converted.raw"
    run("qemu-img", "convert", "-t", "unsafe", "-f", "qcow2", "-O", "raw",
        image, path, timeout=300)
    return path
