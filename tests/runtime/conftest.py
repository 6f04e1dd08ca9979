"""Bundles with a busybox root, and running them to the end."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from wherry.linux.clone import reap
from wherry.linux.process import pidfd_send_signal
from wherry.oci.mount import Mount
from wherry.oci.runtime_config import parse, parse_process
from wherry.runtime.cgroups import Cgroup
from wherry.runtime.default_spec import default_spec
from wherry.runtime.join import join
from wherry.runtime.launch import Launched, Stdio, launch
from wherry.runtime.plan import Plan, plan_container

CAPABILITIES = [f"CAP_{name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SETPCAP")]
APPLETS = (
    "sh ls cat id mount echo true sleep ps hostname stat tty touch env mkdir ln rm readlink seq grep umount".split()
)


def busybox_root(root: Path) -> Path:
    """Fill `root` with busybox, accounts and the directories that images have."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "home/app"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nbad:x:4294967296:0::/:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\nwheel:x:10:root,app\n")
    source = shutil.which("busybox")
    assert source is not None
    shutil.copy(source, root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    return root


class Box:
    """One bundle: change `config`, then run it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.layer = busybox_root(directory / "layer")
        for name in ("upper", "work"):
            (directory / name).mkdir()
        self.config = default_spec()
        self.config["root"] = {"path": "layer"}
        process = self.config["process"]
        process["terminal"] = False
        process["rlimits"] = []
        process["env"] = ["PATH=/bin"]
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
        self.root_mounts = [
            Mount(
                "/",
                "overlay",
                "overlay",
                (
                    f"lowerdir={self.layer}",
                    f"upperdir={directory}/upper",
                    f"workdir={directory}/work",
                    "index=off",
                    "redirect_dir=off",
                    "metacopy=off",
                ),
            )
        ]
        self._alive: list[Launched] = []

    def namespaces(self, *more: dict[str, str], without: Sequence[str] = ()) -> None:
        """The default namespaces, less some, plus some."""
        linux = self.config["linux"]
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] not in without] + list(more)

    def plan(self, **options: Any) -> Plan:
        return plan_container(
            parse(self.config), str(self.directory), root_mounts=self.root_mounts, container_id="test", **options
        )

    def start(
        self,
        *args: str,
        stdio: Stdio | None = None,
        cgroup: Cgroup | None = None,
        seccomp: bytes | None = None,
        concurrently: Callable[[int], None] | None = None,
        **options: Any,
    ) -> Launched:
        """Launch a command; what still runs at the end of the test is killed."""
        if args:
            self.config["process"]["args"] = list(args)
        null = os.open(os.devnull, os.O_RDWR)
        try:
            launched = launch(
                self.plan(**options),
                stdio or Stdio(null, null, null),
                cgroup=cgroup,
                seccomp=seccomp,
                concurrently=concurrently,
            )
        finally:
            os.close(null)
        self._alive.append(launched)
        return launched

    def run(self, *args: str, **options: Any) -> tuple[int, str]:
        """Run a command to the end. Returns (exit code, output of both streams)."""
        read, write = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            launched = self.start(*args, stdio=Stdio(null, write, write), **options)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
            os.close(null)
        return self._finish(launched, read)

    def sh(self, script: str, **options: Any) -> str:
        """Run a shell script, which must succeed, and return its output."""
        code, output = self.run("sh", "-c", script, **options)
        assert code == 0, output
        return output

    def join(
        self,
        target: Launched,
        *args: str,
        stdio: Stdio | None = None,
        cgroup: Cgroup | None = None,
        **process: Any,
    ) -> tuple[int, str]:
        """Run a command beside `target` to the end."""
        read, write = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        value = {**self.config["process"], "args": list(args), **process}
        try:
            joined = join(
                target.pid,
                parse_process(value),
                stdio or Stdio(null, write, write),
                target_start_time=target.start_time,
                cgroup=cgroup,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
            os.close(null)
        self._alive.append(joined)
        return self._finish(joined, read)

    def join_terminal(self, target: Launched, *args: str, **process: Any) -> tuple[int, str]:
        """Run a command beside `target` on a terminal of its own, to the end. Returns (exit code, output)."""
        value = {**self.config["process"], "args": list(args), "terminal": True, **process}
        joined = join(target.pid, parse_process(value), Stdio(terminal=True), target_start_time=target.start_time)
        self._alive.append(joined)
        assert joined.master is not None
        output = terminal_output(joined.master)
        code = reap(joined.pidfd)
        assert code is not None
        self._alive.remove(joined)
        os.close(joined.pidfd)
        os.close(joined.master)
        return code, output.decode()

    def _finish(self, launched: Launched, read: int) -> tuple[int, str]:
        with open(read, "rb") as stream:
            output = stream.read()
        code = reap(launched.pidfd)
        self._alive.remove(launched)
        os.close(launched.pidfd)
        assert code is not None
        return code, output.decode()

    def kill(self, launched: Launched) -> None:
        """Kill and reap."""
        pidfd_send_signal(launched.pidfd, 9)
        reap(launched.pidfd)
        os.close(launched.pidfd)
        if launched.master is not None:
            os.close(launched.master)
        self._alive.remove(launched)

    def close(self) -> None:
        # process 1 of a PID namespace cannot be reaped before those that joined it
        for launched in reversed(self._alive.copy()):
            self.kill(launched)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A bundle whose processes are gone at the end of the test."""
    found = Box(tmp_path)
    before = host_state()
    yield found
    found.close()
    assert host_state() == before, "a mount or a descriptor was left behind"


def terminal_output(master: int) -> bytes:
    """What is written to a terminal until the last process has closed it."""
    output = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # EIO: nobody has it open any more
            return output
        if not piece:
            return output
        output += piece


def host_state() -> tuple[list[str], list[str]]:
    """What a launch may not change: this process's descriptors, namespaces and children, and the host's own mounts."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    ours = [path for path in mounts if "pytest-of" in path]
    descriptors = sorted(f"{fd}:{os.readlink(f'/proc/self/fd/{fd}')}" for fd in _descriptors())
    spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid_for_children", "time_for_children", "mnt")]
    return ours, descriptors + spaces


def _descriptors() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue  # the listing's own
        found.append(fd)
    return found


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator["RuntimeCommand"]:
    """`wherry-runtime` with a state directory of its own; its containers are deleted at the end."""
    command = RuntimeCommand(tmp_path)
    yield command
    command.close()


class RuntimeCommand:
    """The command, run as shims run it."""

    def __init__(self, directory: Path) -> None:
        import sys

        import wherry

        self.root = directory / "state"
        source = Path(wherry.__file__).parents[1]
        code = f"import sys; sys.path.insert(0, {str(source)!r}); from wherry.runtime.cli import main; main()"
        self.words = [sys.executable, "-I", "-S", "-c", code, "--root", str(self.root)]

    def __call__(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        # files, not pipes: a container in the background keeps stdout open
        return subprocess.run(
            [*self.words, *args],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            **options,
        )

    def close(self) -> None:
        for name in self("list", "-q").stdout.split():
            self("delete", "--force", name)
