"""The engine on pure v2. Each check may leave containers: they are removed, and nothing of them may be left."""

import json
import os
import signal
import socket
import traceback
from pathlib import Path
from typing import Any

from tests.e2e.harness import EngineProcess, until
from tests.tracer import attack, tracing
from wherry.client.address import parse
from wherry.client.errors import CannotConnect
from wherry.client.http import Client
from wherry.linux.mount import MS_REC, MS_SLAVE, mount, umount
from wherry.linux.namespace import CLONE_NEWCGROUP, CLONE_NEWNS, unshare
from wherry.runtime.cgroups import open_existing

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
        until(self._answers, "wherryd answers", 180)

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
    shown = open_existing(f"/{engine.roots.scope}/containers/{group.name}").stats()
    assert (shown["memory"]["limit"], shown["pids"]["limit"]) == (64 << 20, 20)
    assert shown["cpu"]["usage"] > 0
    assert 0 < shown["memory"]["usage"] < 64 << 20
    seen = engine.wherry("exec", "limited", "sh", "-c", "cat /sys/fs/cgroup/memory.max; nproc").out
    assert seen == f"{64 << 20}\n1\n"
    forks = "i=0; while [ $i -lt 30 ]; do sleep 20 & i=$((i+1)); done; wait"
    assert "can't fork" in engine.wherry("exec", "limited", "sh", "-c", forks, check=False).err
    assert int((group / "pids.events").read_text().split()[1]) > 0


def check_update_and_stats(engine: Engine) -> None:
    """New limits are in the kernel's files, and what it counts is what is shown."""
    group = engine.run_detached(
        "u1", "-m", "64m", "--pids-limit", "30", "--health-cmd", "true", "--health-interval", "1s"
    )
    body = {"Memory": 96 << 20, "MemorySwap": 128 << 20, "NanoCpus": 500_000_000, "PidsLimit": 40}
    assert engine.client.call("POST", "/containers/u1/update", body=body) == {"Warnings": None}
    files = [(group / name).read_text().split()[0] for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")]
    assert files == [str(96 << 20), str(32 << 20), "40", "50000"]
    until(lambda: engine.inspect("u1", ".State.Health.Status") == "healthy", "the check is run", 60)
    used = engine.client.call("GET", "/containers/u1/stats", {"stream": 0, "one-shot": 1})
    assert used["memory_stats"]["limit"] == 96 << 20
    assert used["pids_stats"]["limit"] == 40
    assert used["pids_stats"]["current"] >= 1
    assert abs(used["memory_stats"]["usage"] - int((group / "memory.current").read_text())) < 1 << 20
    assert "inactive_file" in used["memory_stats"]["stats"]
    assert used["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert used["cpu_stats"]["online_cpus"] == os.cpu_count()
    assert "percpu_usage" not in used["cpu_stats"]["cpu_usage"]
    assert used["blkio_stats"]["io_queue_recursive"] is None
    assert used["networks"]["eth0"]["rx_packets"] >= 0


def check_account_files_that_are_descriptors_of_ours(engine: Engine) -> None:
    """A link from /etc/passwd through what a process of ours has open gives no account, at a start and in an exec."""
    accounts = "root:x:0:0::/:/bin/sh\nevil:x:4242:4242::/:/bin/sh\n"
    place = engine.base / "accounts"
    place.write_text(accounts)
    etc = engine.base / "etc"
    etc.mkdir()
    passwd = etc / "passwd"
    passwd.write_text(accounts)
    engine.run_detached("held", "-v", f"{etc}:/etc")
    start = ("run", "--rm", "-v", f"{etc}:/etc", "-u", "evil", "busybox", "id", "-u")
    join = ("exec", "-u", "evil", "held", "id", "-u")
    for command in (start, join):
        assert engine.wherry(*command).out == "4242\n"
    ours = [*(f"fd/{number}" for number in range(12)), "cwd", "root"]
    for link in (f"/proc/self/{one}/{'../' * 12}{str(place).lstrip('/')}" for one in ours):
        passwd.unlink()
        passwd.symlink_to(link)
        for command in (start, join):
            done = engine.wherry(*command, check=False)
            assert done.code in (125, 126), (link, done)
            assert "passwd" in done.out + done.err, (link, done)


def check_what_v2_lacks(engine: Engine) -> None:
    """What only v1 can do is discarded with Docker's warning; block I/O is limited, in v2's files."""
    limits = {
        "Memory": 32 << 20,
        "OomKillDisable": True,
        "MemorySwappiness": 10,
        "BlkioWeight": 500,
        "BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1 << 20}],
        "BlkioDeviceWriteIOps": [{"Path": "/dev/vda", "Rate": 100}],
    }
    wanted = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": limits}
    created = engine.client.call("POST", "/containers/create", None, wanted)
    assert [warning.rpartition(". ")[2] for warning in created["Warnings"]] == [
        "Memory swappiness discarded.",
        "OomKillDisable discarded.",
    ]
    engine.post(created["Id"], "start")
    group = TOP / engine.roots.scope / "containers" / created["Id"]
    device = os.stat("/dev/vda").st_rdev
    number = f"{os.major(device)}:{os.minor(device)}"
    assert (group / "io.max").read_text() == f"{number} rbps=1048576 wbps=max riops=max wiops=100\n"
    assert (group / "io.weight").read_text() == "default 4950\n"


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


def check_traced_exec(engine: Engine) -> None:
    """A container that may trace every process meets none of an exec that has more than it."""
    engine.run_detached("tracing", "--cap-add", "SYS_PTRACE")
    sentinel = engine.base / "sentinel"
    sentinel.write_text("of the host")
    with tracing(engine.inspect("tracing", ".State.Pid"), sentinel) as tracer:
        attack(tracer, lambda: engine.wherry("exec", "tracing", "sleep", "0.5"), rounds=3)


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


def check_user_namespace(engine: Engine) -> None:
    """Root of the container is nobody's on the host, what it writes has the ids of images, and limits hold."""
    for name in ("subuid", "subgid"):
        Path("/etc", name).write_text("dockremap:200000:65536\n")
    options = ("--userns", "remap", "-m", "32m", "--pids-limit", "20", "-v", "mapped:/v", "-p", "127.0.0.1:8081:80")
    page = "touch /v/made /made; chown 5:6 /v/made; echo mapped >/index.html; exec httpd -f -h / -p 80"
    group = engine.run_detached("mapped", *options, command=("sh", "-c", page))
    assert os.stat(f"/proc/{engine.inspect('mapped', '.State.Pid')}").st_uid == 200000
    assert (group / "memory.max").read_text() == f"{32 << 20}\n"
    assert (group / "pids.max").read_text() == "20\n"
    until(lambda: _fetch(8081) == b"mapped\n", "its published port answers")
    made = os.stat(engine.inspect("mapped", ".Mounts")[0]["Source"] + "/made")
    assert (made.st_uid, made.st_gid) == (5, 6)
    upper = engine.inspect("mapped", ".GraphDriver.Data.UpperDir")
    assert os.stat(f"{upper}/made").st_uid == 0
    script = "cat /proc/self/uid_map /proc/self/cgroup; stat -c %u /v /etc; echo 1 >/sys/fs/cgroup/memory.max"
    done = engine.wherry("exec", "mapped", "sh", "-c", script, check=False)
    assert done.out.split() == ["0", "200000", "65536", "0::/", "0", "0"], done
    assert done.code != 0 and "memory.max" in done.err
    eat = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
    engine.wherry("run", "--name", "eater", "--userns", "remap", "-m", "16m", "busybox", "sh", "-c", eat, code=137)
    assert engine.inspect("eater", ".State.OOMKilled") is True


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


def check_engine_in_a_container(_: Engine) -> None:
    """Where the top of the tree that the engine sees is a container's and holds processes: limits hold there too."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        failure = ""
        try:
            _in_a_container()
        except BaseException:  # noqa: BLE001 - whatever it is, the parent reports it
            failure = traceback.format_exc()
        os.write(writer, failure.encode()[-4000:])
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as said:
        failure = said.read()
    os.waitpid(pid, 0)
    outer = TOP / "outer.scope"
    assert not failure, failure
    assert {path.name for path in outer.iterdir() if path.is_dir()} == {"init"}
    (outer / "init").rmdir()
    outer.rmdir()


def _in_a_container() -> None:
    outer = TOP / "outer.scope"
    outer.mkdir()
    (outer / "cgroup.procs").write_text("0")
    unshare(CLONE_NEWCGROUP | CLONE_NEWNS)
    mount("none", "/", "", MS_REC | MS_SLAVE)
    umount(str(TOP))
    mount("none", str(TOP), "cgroup2")
    assert Path("/proc/self/cgroup").read_text() == "0::/\n"
    inner = Engine()
    try:
        inner.start()
        inner.wherry("image", "bootstrap", "busybox")
        group = inner.run_detached("one", "-m", "32m", "--network", "none")
        assert (group / "memory.max").read_text() == f"{32 << 20}\n"
        inner.remove_all()
        inner.assert_nothing_runs()
        inner.stop()
        assert not (TOP / inner.roots.scope).exists()
    finally:
        if inner.process is not None:
            inner.kill()
