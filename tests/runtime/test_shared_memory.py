"""Another container's shared memory, and containers that would turn it into something else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.conftest import Box
from wherry.errors import InvalidSpec, KernelError, WherryError
from wherry.oci.runtime_config import SHARED_MEMORY
from wherry.runtime.launch import Launched

pytestmark = pytest.mark.root


@pytest.fixture
def second(box: Box, tmp_path: Path) -> Iterator[Box]:
    """A bundle that binds the shared memory of another."""
    (tmp_path / "second").mkdir()
    found = Box(tmp_path / "second")
    shm = next(m for m in found.config["mounts"] if m["destination"] == "/dev/shm")
    shm.update(type="bind", source=SHARED_MEMORY, options=["bind", "rprivate"])
    yield found
    found.close()


def _share(second: Box, donor: Launched, script: str) -> str:
    fds = {
        kind: os.open(f"/proc/{donor.pid}/ns/{name}", os.O_RDONLY) for kind, name in (("ipc", "ipc"), ("shm", "mnt"))
    }
    try:
        return second.sh(script, namespaces=fds)
    finally:
        for fd in fds.values():
            os.close(fd)


def test_files_and_limits_are_the_donors(box: Box, second: Box) -> None:
    """One tmpfs in both, with the donor's size, and the same ipc namespace."""
    donor = box.start("sh", "-c", "echo theirs > /dev/shm/file; sleep 60")
    box.join(donor, "sh", "-c", "until [ -s /dev/shm/file ]; do :; done")
    output = _share(second, donor, "cat /dev/shm/file; echo ours > /dev/shm/back; readlink /proc/self/ns/ipc")
    assert output == f"theirs\n{os.readlink(f'/proc/{donor.pid}/ns/ipc')}\n"
    assert box.join(donor, "cat", "/dev/shm/back") == (0, "ours\n")
    lines = [
        box.join(donor, "grep", " /dev/shm ", "/proc/mounts")[1],
        _share(second, donor, "grep ' /dev/shm ' /proc/mounts"),
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    "attack",
    [
        "umount /dev/shm; rm -r /dev/shm; ln -s /host /dev/shm",
        "umount /dev/shm; rm -r /dev/shm; ln -s ../../../../../../etc /dev/shm",
        "umount /dev/shm",
        "umount /dev/shm; mount -o bind /etc /dev/shm",
        "umount /dev/shm; mount -t proc proc /dev/shm",
        "umount /dev/shm; rm -r /dev/shm; ln -s /proc/1/root/dev /dev/shm",
        "umount -l /dev; rm -r /dev; ln -s /proc/self/root/dev /dev",
    ],
)
def test_a_hostile_donor_shares_nothing_else(box: Box, second: Box, attack: str) -> None:
    """Links, nothing at all, and other file systems are refused, by name."""
    kinds = ("bounding", "effective", "permitted")
    box.config["process"]["capabilities"] = {key: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for key in kinds}
    donor = box.start("sleep", "60")
    assert box.join(donor, "sh", "-c", attack)[0] == 0
    with pytest.raises((InvalidSpec, KernelError)):
        _share(second, donor, "ls /dev/shm")


def test_without_the_descriptor_there_is_none(second: Box) -> None:
    """The name alone is no path."""
    with pytest.raises(WherryError, match="bind source path does not exist"):
        second.start("true")
