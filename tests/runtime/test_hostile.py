"""Images and callers that want out. One test for each attack that others fell for."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.races import race, swapping
from tests.runtime.conftest import Box
from wherry.errors import HostileInput, InvalidSpec, KernelError, WherryError
from wherry.linux.interpreter import sealed_interpreter
from wherry.runtime.launch import Stdio

pytestmark = pytest.mark.root


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_cve_2019_19921_proc_is_a_link(box: Box, name: str) -> None:
    """A /proc or /sys that is a link is refused: labels and sysctls would go where it leads."""
    assert box.run("true") == (0, "")
    (box.layer / name).rmdir()
    (box.layer / name).symlink_to("tmp")
    with pytest.raises(HostileInput, match="must be an ordinary directory"):
        box.start("true")


def test_cve_2025_31133_null_is_a_link(box: Box) -> None:
    """The cover of masked paths is the host's null device, whatever the image calls /dev/null."""
    box.config["mounts"] = [m for m in box.config["mounts"] if not m["destination"].startswith("/dev")]
    (box.layer / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    core_pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    output = box.sh("stat -c '%t %T' /proc/keys /dev/null; readlink /dev/null; true")
    assert output == "1 3\n1 3\n"
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core_pattern


@pytest.mark.parametrize("place", ["dev", "dev/console", "dev/pts", "dev/pts/ptmx"])
def test_cve_2025_52565_console_is_a_link(box: Box, place: str) -> None:
    """A link in the place of the console or its directories leads to nothing of the host."""
    sentinel = box.directory / "sentinel"
    sentinel.write_text("untouched")
    unmounted = ("/dev", "/dev/mqueue", "/dev/shm", *(["/dev/pts"] if place == "dev/pts/ptmx" else []))
    (box.directory / "control").mkdir()
    control = Box(box.directory / "control")
    for each in (box, control):
        each.config["process"]["terminal"] = True
        each.config["mounts"] = [m for m in each.config["mounts"] if m["destination"] not in unmounted]
    if place == "dev/pts/ptmx":
        (control.layer / "dev/pts").mkdir()  # without a devpts no terminal can be had
        with pytest.raises(WherryError):
            control.start("true")
    else:
        control.start("true")
    control.close()
    path = box.layer / place
    if place == "dev":
        path.rmdir()
    path.parent.mkdir(exist_ok=True, parents=True)
    path.symlink_to(sentinel)
    if place.startswith(("dev/console", "dev/pts/")):
        with pytest.raises(WherryError):
            box.start("true")
    else:  # resolved in the container's root
        box.start("true")
    assert sentinel.read_text() == "untouched"
    assert not sentinel.is_symlink()


def test_cve_2025_52565_ptmx_is_a_file(box: Box) -> None:
    """An exec's terminal comes from devpts or not at all."""
    box.config["process"]["capabilities"] = {key: ["CAP_SYS_ADMIN"] for key in ("bounding", "effective", "permitted")}
    launched = box.start("sleep", "60")
    assert box.join(launched, "sh", "-c", "umount /dev/pts; echo fake > /dev/pts/ptmx") == (0, "")
    with pytest.raises((HostileInput, KernelError)):
        box.join(launched, "true", stdio=Stdio(terminal=True))


@pytest.mark.parametrize("number", range(3, 40))
def test_cve_2024_21626_working_directory_is_a_descriptor(box: Box, number: int) -> None:
    """No descriptor of ours can be the working directory."""
    box.config["process"]["cwd"] = "/home/app"
    assert box.run("sh", "-c", "pwd") == (0, "/home/app\n")
    box.config["process"]["cwd"] = f"/proc/self/fd/{number}"
    with pytest.raises(WherryError):
        box.start("true")


def test_cve_2021_30465_target_swapped_while_mounting(box: Box) -> None:
    """A racer that swaps a directory of a shared volume for a link to the host's root never gets a mount there."""
    volume = box.directory / "volume"
    (volume / "real").mkdir(parents=True)
    (volume / "target").mkdir()
    outside = box.directory / "outside"
    outside.mkdir()
    box.config["mounts"] += [
        {"destination": "/v", "type": "bind", "source": str(volume), "options": ["bind"]},
        {"destination": "/v/target/deep", "type": "tmpfs", "source": "tmpfs", "options": []},
    ]
    (volume / "evil").symlink_to(outside)
    script = "grep /deep /proc/mounts; true"
    assert " /v/target/deep tmpfs" in box.sh(script)  # without a racer the mount is where it was asked for

    def attempt() -> str:
        try:
            mounted = box.sh(script).split()
        except WherryError:
            return "refused"
        finally:
            assert list(outside.iterdir()) == []
        return "directory" if mounted[1] in ("/v/target/deep", "/v/evil/deep") else "link"

    with swapping(volume / "target", volume / "evil"):
        race(attempt, ("directory", "link"), rounds=40)


def test_targets_outside_by_dots_and_links_stay_inside(box: Box) -> None:
    """`..` in a destination and links to the host's paths end at the container's root."""
    outside = box.directory / "outside"
    outside.mkdir()
    (box.layer / "link").symlink_to(f"../../../../../../..{outside}")
    box.config["mounts"] += [
        {"destination": "/../../../etc/up", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/link/new", "type": "tmpfs", "source": "tmpfs"},
    ]
    assert "on /etc/up type tmpfs" in box.sh("mount")
    assert list(outside.iterdir()) == []
    assert not Path("/etc/up").exists()


def test_mounts_over_proc_are_refused_by_what_is_there(box: Box) -> None:
    """A link of the image does not bring a volume into /proc (CVE-2019-16884)."""
    (box.layer / "data").symlink_to("/home/app")
    box.config["mounts"].append({"destination": "/data", "type": "bind", "source": "/tmp", "options": ["bind"]})
    assert " on /home/app type" in box.sh("mount")  # a link to elsewhere is followed
    (box.layer / "data").unlink()
    (box.layer / "data").symlink_to("/proc/self/attr")
    with pytest.raises(InvalidSpec, match="inside /proc"):
        box.start("true")


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("kind", ["fifo", "device", "huge", "proc"])
def test_account_files_that_never_end(box: Box, name: str, kind: str) -> None:
    """A FIFO, a device, a link to /proc or a file without end fails a start that needs it, at once (CVE-2026-47262)."""
    path = box.layer / "etc" / name
    box.config["process"]["user"] = {"uid": 0, "gid": 0, "username": "0"}
    assert box.run("true") == (0, "")
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "proc":
        path.symlink_to("/proc/kmsg")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    before = time.monotonic()
    with pytest.raises((HostileInput, KernelError)):
        box.start("true")
    assert time.monotonic() - before < 20  # reading a tebibyte, or waiting for a writer, would take longer


@pytest.mark.parametrize("way", ["start", "exec"])
@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("kind", ["the file", "a directory's neighbour"])
def test_attack_account_files_that_are_descriptors_of_ours(box: Box, name: str, kind: str, way: str) -> None:
    """A link through /proc to what our process has open is not followed: accounts are the image's or none."""
    accounts = {"passwd": "root:x:0:0::/:/bin/sh\nevil:x:4242:4242::/:/bin/sh\n", "group": "evil:x:4242:\n"}
    (box.directory / "below").mkdir()
    (box.directory / "accounts").write_text(accounts[name])
    user = {"uid": 0, "gid": 0, "username": "evil" if name == "passwd" else "root:evil"}
    opened = os.open(box.directory / ("accounts" if kind == "the file" else "below"), os.O_RDONLY)
    # an exec closes what it does not need, so it is given as its input
    link = f"/proc/self/fd/{0 if way == 'exec' else opened}{'' if kind == 'the file' else '/../accounts'}"
    if way == "exec":
        box.namespaces(without=("pid",))  # the /proc of another pid namespace does not know who reads the accounts

    def attempt() -> tuple[int, str]:
        if way == "start":
            box.config["process"]["user"] = user
            return box.run("id", "-u")
        launched = box.start("sleep", "60")
        read, write = os.pipe()
        try:
            return box.join(launched, "true", stdio=Stdio(opened, write, write), user=user)
        finally:
            os.close(read)
            os.close(write)

    try:
        (box.layer / "etc" / name).write_text(accounts[name])
        assert attempt()[0] == 0  # with the same accounts in the image
        (box.layer / "etc" / name).unlink()
        (box.layer / "etc" / name).symlink_to(link)
        with pytest.raises(HostileInput):
            attempt()
    finally:
        os.close(opened)


def test_cve_2019_5736_the_interpreter_cannot_be_written(box: Box) -> None:
    """What /proc/<pid>/exe of our processes leads to is on a mount that nobody can write."""
    fd = sealed_interpreter()
    try:
        with pytest.raises(OSError, match=r"Read-only file system|Text file busy"):
            os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
        assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
    finally:
        os.close(fd)


def test_cve_2019_5736_entrypoint_is_our_own_program(box: Box) -> None:
    """`#!/proc/self/exe` executes the container's own file or nothing."""
    for name, program in (("good", "/bin/echo"), ("evil", "/proc/self/exe")):
        (box.layer / "bin" / name).write_text(f"#!{program}\nimport os\n")
        (box.layer / "bin" / name).chmod(0o755)
    assert box.run("/bin/good") == (0, "/bin/good\n")
    with pytest.raises(WherryError):
        box.start("/bin/evil")


def test_cve_2016_9962_a_joining_process_cannot_be_looked_into(box: Box) -> None:
    """A racer that is root in the container never lists the descriptors of the one that joins."""
    process = box.config["process"]
    kinds = ("bounding", "effective", "permitted")
    process["capabilities"] = {key: ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"] for key in kinds}
    # it has no children while it looks for processes, so whoever is not process 1 joins
    looking = "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || { ls -l $p/fd && echo looked; } 2>&1; done"
    launched = box.start("sh", "-c", f"while true; do {looking}; done > /tmp/seen")

    def attempt() -> Iterator[str]:
        assert box.join(launched, "sleep", "0.02")[0] == 0
        seen = (box.directory / "upper/tmp/seen").read_text()
        assert str(box.directory) not in seen
        assert "socket:" not in seen
        if "Permission denied" in seen:
            yield "before it was harmless"
        if "looked" in seen:
            yield "afterwards"

    race(attempt, ("before it was harmless", "afterwards"), rounds=20)


def test_a_hostile_python_library_is_never_read(box: Box) -> None:
    """Nothing is imported once the container's root is entered, on no error path either (CVE-2019-14271)."""
    import sys

    for name in ("warnings", "traceback", "linecache", "codecs", "encodings/idna", "json", "re", "socket"):
        for root in {path for path in sys.path if path.startswith("/")}:
            target = box.layer / root.lstrip("/") / f"{name}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("open('/tmp/imported', 'w').close()\n")
    launched = box.start("sleep", "60")
    for args in (["nope\udcff"], ["/etc/passwd"], ["sh", "-c", "true"]):
        try:
            box.join(launched, *args)
        except WherryError:
            continue
    assert "imported" not in box.join(launched, "ls", "/tmp")[1]
