"""What doctor says of this machine is what a mount here gets."""

import json
import os
import subprocess

import command

INIT_OVER_IO_URING = 1 << 41
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
REFUSED = "cannot carry requests over io_uring: "
AS_AUTO = "; or leave out --transport=io_uring"


@command.needs_mounts
class DoctorTest(command.CommandTest):

    def doctor(self):
        return json.loads(self.bgfs("doctor", "--json"))

    def carried(self, *options):
        """What carries a mount, as bgfs status has it."""
        self.image()
        self.bgfs("mount", "--format=raw", *options, "disk.img", "mnt")
        with open(self.path("mnt", "disk.raw"), "rb") as file:
            file.read(1)
        status, = self.status("mnt")
        self.bgfs("umount", "mnt")
        return status["exports"][0]["transport"]

    def test_says_what_a_mount_gets(self):
        self.assertEqual(self.doctor()["transport"], self.carried())
        self.assert_nothing_left()

    def test_says_it_in_lines(self):
        said = self.doctor()
        lines = self.bgfs("doctor").splitlines()
        self.assertEqual(lines[0], "a mount made here is carried over "
                         f"{said['transport']}: {said['reason']}")
        self.assertEqual(
            lines[1:], [f"could be better: {item['what']}: {item['advice']}"
                        for item in said["findings"]])

    def test_what_cannot_be_had_is_refused_where_it_is_insisted_on(self):
        said = self.doctor()
        self.image()
        arguments = ["mount", "--format=raw", "--transport=io_uring"]
        if said["transport"] == "io_uring":
            # INIT refuses, which nobody knows before it is mounted.
            arguments.append(f"--mask-init-flags={INIT_OVER_IO_URING}")
            why = ("the kernel refused it for this mount: bgfs doctor and the "
                   "kernel's log may say why")
        else:
            why = next(f"{item['what']}: {item['advice']}"
                       for item in said["findings"]
                       if item["what"] == said["reason"])
        self.fails(1, REFUSED + why + AS_AUTO, *arguments, "disk.img", "mnt")
        self.assert_nothing_left()

    def test_what_cannot_be_had_is_done_without_by_itself(self):
        self.assertEqual(
            self.carried(f"--mask-init-flags={INIT_OVER_IO_URING}"),
            "/dev/fuse")

    def test_a_user_who_may_not_open_the_device(self):
        if subprocess.run([*AS_NOBODY, command.BGFS, "--version"], timeout=60,
                          capture_output=True, check=False).returncode != 0:
            self.skipTest(f"needs {command.BGFS} to be open to all users")
        device = os.stat("/dev/fuse")
        os.mknod("/run/closed-fuse", 0o020600, device.st_rdev)
        subprocess.run(["mount", "--bind", "/run/closed-fuse", "/dev/fuse"],
                       timeout=60, check=True)
        try:
            for name in ("", "run"):
                os.chown(self.path(name), 65534, 65534)
            done = subprocess.run(
                [*AS_NOBODY, command.BGFS, "doctor"], env=self.environment,
                cwd=self.folder, timeout=60, capture_output=True, text=True,
                check=False)
        finally:
            subprocess.run(["umount", "/dev/fuse"], timeout=60, check=True)
            os.unlink("/run/closed-fuse")
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        lines = done.stdout.splitlines()
        why = "/dev/fuse cannot be opened (Permission denied)"
        self.assertEqual(lines[0], f"no mount works here: {why}")
        self.assertEqual(lines[1],
                         f"missing: {why}: chmod 0666 /dev/fuse, as root")


if __name__ == "__main__":
    command.main()
