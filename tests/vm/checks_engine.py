"""The engine on pure v2. Each check may leave containers: they are removed, and nothing of them may be left."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from tests.e2e.harness import EngineProcess, until
from wherry.client.address import parse
from wherry.client.errors import CannotConnect
from wherry.client.http import Client

TOP = Path("/sys/fs/cgroup")
FUSE = "c 10:229 rw"


class Engine(EngineProcess):
    """The end-to-end tests' engine, driven by our command, and by its API where the command adds nothing but time."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client(parse(self.host))

    def start(self) -> None:
        """Execute wherryd and wait until it answers."""
        self.client.close()
        self.launch()
        until(self._answers, "wherryd answers", 60)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"wherryd ended: {self.log_tail()}"
        try:
            return self.client.request("GET", "/_ping").read() == b"OK"
        except CannotConnect:
            return False

    def run_detached(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> Path:
        """Start a container; returns its cgroup."""
        id_ = self.wherry("run", "-d", "--name", name, *options, "busybox", *command).out.strip()
        return TOP / self.roots.scope / "containers" / id_

    def post(self, name: str, verb: str, **query: Any) -> None:
        """One of the verbs that answer nothing."""
        self.client.request("POST", f"/containers/{name}/{verb}", query).read()

    def inspect(self, name: str, path: str) -> Any:
        """What inspect shows at a path such as `.State.Pid`."""
        value = self.client.call("GET", f"/containers/{name}/json")
        for part in path.strip(".").split("."):
            value = value[part]
        return value

    def remove_all(self) -> None:
        """Remove every container."""
        for found in self.client.call("GET", "/containers/json", {"all": 1}):
            self.client.request("DELETE", f"/containers/{found['Id']}", {"force": 1}).read()


def check_info(engine: Engine) -> None:
    """The layout is told to clients, and nothing is warned about."""
    said = engine.client.call("GET", "/info")
    assert (said["CgroupVersion"], said["CgroupDriver"]) == ("2", "cgroupfs")
    assert [said[key] for key in ("MemoryLimit", "SwapLimit", "PidsLimit", "CPUShares", "CpuCfsQuota", "CPUSet")] == [
        *[True] * 6
    ], said
    assert "cgroup" not in " ".join(said["Warnings"] or []), said["Warnings"]


def check_run_and_exec(engine: Engine) -> None:
    """Output and exit codes; the container sees its cgroup as the root of a read-only tree, exec too."""
    look = "cat /proc/self/cgroup; grep ' /sys/fs/cgroup ' /proc/self/mounts; mkdir /sys/fs/cgroup/x"
    done = engine.wherry("run", "--rm", "busybox", "sh", "-c", look + "; exit 7", code=7)
    lines = done.out.splitlines()
    assert lines[0] == "0::/"
    assert lines[1].startswith("cgroup /sys/fs/cgroup cgroup2 ro,"), lines
    assert "Read-only file system" in done.err
    group = engine.run_detached("one")
    assert engine.inspect("one", ".HostConfig.CgroupnsMode") == "private"
    assert engine.wherry("exec", "one", "cat", "/proc/self/cgroup").out == "0::/\n"
    pid = engine.inspect("one", ".State.Pid")
    assert (group / "cgroup.procs").read_text() == f"{pid}\n"
    assert engine.wherry("exec", "one", "sh", "-c", "exit 9", code=9).out == ""
    host = engine.wherry("run", "--rm", "--cgroupns", "host", "busybox", "cat", "/proc/self/cgroup").out
    assert host.startswith(f"0::/{engine.roots.scope}/containers/"), host


def check_limits(engine: Engine) -> None:
    """Each option is in the kernel's file, and the container can look them up."""
    group = engine.run_detached(
        "limited",
        *("-m", "64m", "--memory-swap", "96m", "--memory-reservation", "16m", "--cpus", "0.5", "--cpu-shares", "512"),
        *("--pids-limit", "20", "--cpuset-cpus", "0", "--cpuset-mems", "0"),
    )
    names = (
        "memory.max memory.swap.max memory.low cpu.max cpu.weight pids.max cpuset.cpus cpuset.cpus.effective".split()
    )
    assert {name: (group / name).read_text().strip() for name in names} == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(32 << 20),
        "memory.low": str(16 << 20),
        "cpu.max": "50000 100000",
        "cpu.weight": "59",
        "pids.max": "20",
        "cpuset.cpus": "0",
        "cpuset.cpus.effective": "0",
    }
    seen = engine.wherry("exec", "limited", "sh", "-c", "cat /sys/fs/cgroup/memory.max; nproc").out
    assert seen == f"{64 << 20}\n1\n"
    forks = "i=0; while [ $i -lt 30 ]; do sleep 20 & i=$((i+1)); done; wait"
    assert "can't fork" in engine.wherry("exec", "limited", "sh", "-c", forks, check=False).err
    assert int((group / "pids.events").read_text().split()[1]) > 0


def check_out_of_memory(engine: Engine) -> None:
    """137 and the flag, by the whole container's end and by that of one process of it."""
    eat = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
    engine.wherry("run", "--name", "eater", "-m", "16m", "busybox", "sh", "-c", eat, code=137)
    assert engine.inspect("eater", ".State.OOMKilled") is True
    assert engine.inspect("eater", ".State.ExitCode") == 137
    engine.wherry("run", "--name", "fine", "-m", "16m", "busybox", "true")
    assert engine.inspect("fine", ".State.OOMKilled") is False


def check_devices(engine: Engine) -> None:
    """Nodes may be made; they open where a rule, `--device` or `--privileged` says so."""
    script = "mknod /f c 10 229 2>/dev/null; (: <>/f) 2>/dev/null && echo opened; : >/dev/null && echo null"
    for options, out in (
        ((), "null\n"),
        (("--device-cgroup-rule", FUSE), "opened\nnull\n"),
        (("--device", "/dev/fuse:/f"), "opened\nnull\n"),
        (("--privileged",), "opened\nnull\n"),
    ):
        assert engine.wherry("run", "--rm", *options, "busybox", "sh", "-c", script).out == out, options


def check_pause(engine: Engine) -> None:
    """Frozen means frozen, for commands too; a paused container is stopped and removed."""
    group = engine.run_detached("held", command=("sh", "-c", "while :; do :; done"))
    engine.post("held", "pause")
    assert "frozen 1" in (group / "cgroup.events").read_text()
    usage = (group / "cpu.stat").read_text().split()[1]
    assert engine.inspect("held", ".State.Status") == "paused"
    assert "is paused" in engine.wherry("exec", "held", "true", check=False).err
    assert (group / "cpu.stat").read_text().split()[1] == usage
    engine.post("held", "unpause")
    assert "frozen 0" in (group / "cgroup.events").read_text()
    until(lambda: (group / "cpu.stat").read_text().split()[1] != usage, "it goes on")
    engine.post("held", "pause")
    engine.wherry("rm", "-f", "held")
    until(lambda: not group.exists(), "the cgroup is removed")


def check_branches_inside(engine: Engine) -> None:
    """A container with cgroups of its own (systemd, a nested engine): exec, stop and removal go on."""
    script = (
        "mkdir /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs"
        " && echo +pids >/sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/deep && echo ready; sleep 1000"
    )
    group = engine.run_detached("nesting", "--privileged", command=("sh", "-c", script))
    until(lambda: (group / "deep").is_dir(), "the container made its branches")
    assert engine.wherry("exec", "nesting", "cat", "/proc/self/cgroup").out.startswith("0::/")
    assert str(engine.inspect("nesting", ".State.Pid")) in (group / "init/cgroup.procs").read_text().split()
    engine.post("nesting", "stop", t=0)
    assert engine.inspect("nesting", ".State.ExitCode") == 137
    engine.post("nesting", "start")
    engine.wherry("rm", "-f", "nesting")
    until(lambda: not group.exists(), "the cgroup is removed")


def check_network(engine: Engine) -> None:
    """Debian's bridge, veth and nf_tables: a published port from the host, a neighbour by its address."""
    page = "echo hello >/index.html; exec httpd -f -h / -p 80"
    engine.run_detached("web", "-p", "127.0.0.1:8080:80", command=("sh", "-c", page))
    address = engine.inspect("web", ".NetworkSettings.IPAddress")

    until(lambda: _fetch(8080) == b"hello\n", "the published port answers")
    assert engine.wherry("run", "--rm", "busybox", "wget", "-q", "-O", "-", f"http://{address}/").out == "hello\n"


def _fetch(port: int) -> bytes:
    """The page of a server on this machine; nothing while it does not answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with connection.makefile("rb") as answer:
                return answer.read().rpartition(b"\r\n\r\n")[2]
    except OSError:
        return b""


def check_adoption(engine: Engine) -> None:
    """`kill -9` of wherryd: the container goes on, the next one has it, and ends it; a killed monitor is noticed."""
    group = engine.run_detached("kept", "-m", "32m")
    pid = engine.inspect("kept", ".State.Pid")
    engine.post("kept", "pause")
    engine.kill()
    assert (group / "cgroup.procs").read_text() == f"{pid}\n"
    engine.start()
    assert engine.inspect("kept", ".State.Pid") == pid
    assert engine.inspect("kept", ".State.Paused") is True
    engine.post("kept", "unpause")
    assert engine.wherry("exec", "kept", "cat", "/proc/self/cgroup").out == "0::/\n"
    engine.post("kept", "stop", t=0)
    assert engine.inspect("kept", ".State.ExitCode") == 137
    engine.post("kept", "start")
    state = json.loads(Path(f"{engine.roots.sandbox(group.name)}/state.json").read_text())
    os.kill(state["monitor"]["pid"], signal.SIGKILL)
    until(lambda: engine.inspect("kept", ".State.Running") is False, "the lost monitor is noticed")
    assert not group.exists()
