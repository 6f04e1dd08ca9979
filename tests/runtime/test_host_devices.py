"""Device files of the host: whatever a container does to what it finds, their mode, owner and times stay."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.conftest import Box

pytestmark = pytest.mark.root

# root of the container, with what an ordinary one may do to files
_KINDS = ("bounding", "effective", "permitted")
_RIGHTS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD"]
_ATTACK = """
for path in /dev/* /dev/pts/* /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/timer_list /sys/firmware \
    /proc/self/fd/0; do
  for change in 'chmod 0' 'chown 12:34' 'touch -t 200001010000' 'busybox setfattr -n user.x -v y'; do
    busybox $change "$path" && echo "$change $path"
  done
done 2> /tmp/errors
true
"""


def _host() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for entry in os.scandir("/dev"):
        status = entry.stat(follow_symlinks=False)
        if entry.name not in ("tty", "ptmx"):  # terminals are touched by who works at them
            found[entry.name] = (status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), status.st_ino)
    return found


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    """The nodes of the host are as they were; if not they are repaired, for the machine's sake, and the test fails."""
    before, null = _host(), os.stat("/dev/null")
    yield
    after = _host()
    if os.stat("/dev/null").st_mode != null.st_mode:
        os.chmod("/dev/null", 0o666)
    assert after == before


def _hostile(box: Box) -> None:
    box.config["process"]["capabilities"] = {key: list(_RIGHTS) for key in _KINDS}


def test_masks_cannot_be_used_to_change_the_hosts_null(box: Box) -> None:
    """Covers of masked files are read-only and not the host's inode; reading them gives nothing."""
    _hostile(box)
    output = box.sh(
        "busybox chmod 0676 /proc/keys; busybox touch /proc/keys; cat /proc/keys; stat -c '%t %T' /proc/keys; true"
    )
    assert output.count("Read-only file system") == 2
    assert output.endswith("1 3\n")
    assert box.sh("busybox stat -c %d /proc/keys") != f"{os.stat('/dev/null').st_dev}\n"


def test_a_hostile_root_changes_devices_of_its_own_only(box: Box) -> None:
    """chmod, chown, touch and setfattr on all of /dev, the masks and the standard input."""
    _hostile(box)
    assert "chmod 0 /dev/zero" in box.sh(_ATTACK)  # its own, which it may


@pytest.mark.parametrize("without", [(), ("/dev",)], ids=["with /dev", "without"])
def test_standard_streams_are_not_the_hosts_null(box: Box, without: tuple[str, ...]) -> None:
    """A descriptor of the null device is the container's own, for process 1 and for a joined one."""
    _hostile(box)
    box.config["mounts"] = [m for m in box.config["mounts"] if not m["destination"].startswith(without or ("-",))]
    host = str(os.stat("/dev/null").st_dev)
    script = "busybox stat -L -c %d /proc/self/fd/0; busybox chmod 600 /proc/self/fd/0"
    assert box.sh(script).strip() != host
    launched = box.start("sleep", "60")
    code, output = box.join(launched, "sh", "-c", f"{script}; rm /dev/null; ln -s /etc/passwd /dev/null")
    assert (code, output.strip() != host) == (0, True)
    # what is called so now is no null device: the next one gets one all the same
    code, output = box.join(launched, "sh", "-c", f"{script}; cat; stat -L -c '%t %T' /proc/self/fd/0")
    assert (code, output.split()[1:]) == (0, ["1", "3"])
    assert output.split()[0] != host


@pytest.mark.parametrize("host_root", [0, 100000], ids=["root is root", "root is nobody"])
def test_a_user_namespace_cannot_change_what_is_bound_for_it(box: Box, host_root: int) -> None:
    """Where devices are bound, not made, they are read-only, and can still be read and written."""
    _hostile(box)
    if host_root:
        for path in [box.directory, *box.directory.parents]:
            path.chmod(path.stat().st_mode | 0o711)
        for top, names, files in os.walk(box.directory):
            for name in (*names, *files):
                os.lchown(Path(top) / name, host_root, host_root)
    box.namespaces({"type": "user"})
    mapping = [{"containerID": 0, "hostID": host_root, "size": 65536}]
    box.config["linux"]["uidMappings"] = box.config["linux"]["gidMappings"] = mapping
    output = box.sh(f"{_ATTACK}\necho x > /dev/null && busybox head -c 4 /dev/zero | busybox wc -c; cat /dev/null")
    assert "/dev/null" not in output
    assert "fd/0" not in output
    assert output.endswith("4\n")
