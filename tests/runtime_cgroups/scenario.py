"""Scenarios on real cgroups, run as a program in a mount namespace that shows the hierarchies a test wants.

`python scenario.py NAME BRANCH` prints one JSON value. Each scenario removes what it made, whatever happens.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from wherry.errors import KernelError, NotFound, WherryError
from wherry.linux import bpf
from wherry.oci.isolation import default_device_rules
from wherry.runtime.cgroups import Cgroup, open_cgroup, open_existing, version
from wherry.runtime.cgroups.hierarchies import mounted
from wherry.runtime.cgroups.prime import prime_migration

MIB = 1 << 20


@contextlib.contextmanager
def branch(path: str, resources: dict[str, Any] | None = None) -> Iterator[Cgroup]:
    """A cgroup that is gone afterwards, with the parents that only this test uses."""
    cgroup = open_cgroup(path)
    try:
        cgroup.create(resources)
        yield cgroup
    finally:
        cgroup.kill()
        cgroup.remove()
        with contextlib.suppress(KernelError):
            open_cgroup(os.path.dirname(path)).remove(seconds=0.1)


@contextlib.contextmanager
def child(cgroup: Cgroup | None, work: Callable[[], int] | None = None) -> Iterator[int]:
    """A process in the cgroup that works once it is there, or waits; killed and reaped at the end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        code = 100
        try:
            if work is None:
                time.sleep(60)
            else:
                code = work()
        finally:
            os._exit(code)
    os.close(reader)
    try:
        if cgroup is not None:
            cgroup.add(pid)
        os.write(writer, b"x")
        yield pid
    finally:
        os.close(writer)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def ended(pid: int) -> int:
    """The wait status of a child."""
    return os.waitpid(pid, 0)[1]


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(") ", 1)[1][0]


def life(path: str) -> Any:
    """Create, add, list, freeze, thaw, kill, remove."""
    facts: dict[str, Any] = {"version": version(), "mode": mounted().mode}
    with branch(path, {"devices": default_device_rules()}) as cgroup, child(cgroup) as pid:
        facts["listed"] = cgroup.pids() == [pid]
        facts["everywhere"] = all(
            str(pid) in open(f"{directory}/cgroup.procs").read().split() for directory in cgroup.directories()
        )
        cgroup.freeze(True)
        cgroup.freeze(True)
        before = cgroup.stats()["cpu"]["usage"]
        cgroup.freeze(False)
        facts["stats"] = before >= 0
        facts["born_in"] = fd = cgroup.directory_fd()
        if fd is not None:
            os.close(fd)
        facts["again"] = open_existing(path).pids() == [pid]
        cgroup.kill()
        facts["killed"] = os.WTERMSIG(ended(pid))
        facts["empty"] = cgroup.pids()
        cgroup.remove()
        cgroup.remove()
        facts["gone"] = not cgroup.exists()
    try:
        open_existing(path)
    except NotFound:
        facts["not_found"] = True
    return facts


def kill_frozen(path: str) -> Any:
    """A frozen process dies of kill, and its children do."""

    def work() -> int:
        os.fork()
        os.fork()
        time.sleep(60)
        return 0

    with branch(path) as cgroup, child(cgroup, work) as pid:
        deadline = time.monotonic() + 5
        while len(cgroup.pids()) < 4 and time.monotonic() < deadline:
            os.sched_yield()
        count = len(cgroup.pids())
        cgroup.freeze(True)
        cgroup.kill()
        status = ended(pid)
        cgroup.remove()
        return {"count": count, "signal": os.WTERMSIG(status), "left": cgroup.pids()}


def busy(path: str) -> Any:
    """A branch with a process is not removed: the error names it; children of the branch go first."""
    with branch(path) as cgroup, child(cgroup) as pid:
        for directory in cgroup.directories():
            os.mkdir(f"{directory}/inner")
            os.mkdir(f"{directory}/inner/most")
        try:
            cgroup.remove(seconds=0.05)
        except KernelError as error:
            return {"errno": error.errno, "named": str(pid) in str(error)}
    return None


def late(path: str) -> Any:
    """A branch of which only empty children are left goes also when its time is over."""
    cgroup = open_cgroup(path)
    cgroup.create(None)
    for directory in cgroup.directories():
        os.makedirs(f"{directory}/inner/most")
    cgroup.remove(seconds=0)
    return cgroup.exists()


def devices(path: str) -> Any:
    """What a child may open and make under the default rules, and after an update."""
    made = f"/dev/wherry-test-{os.getpid()}"

    def tries() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("/dev/null", "/dev/zero", "/dev/fuse", "/dev/kmsg"):
            try:
                os.close(os.open(name, os.O_RDWR if name != "/dev/kmsg" else os.O_RDONLY))
                found[name] = "ok"
            except OSError as error:
                found[name] = os.strerror(error.errno or 0)
        try:
            os.mknod(made, 0o020600, os.makedev(10, 229))
            os.unlink(made)
            found["mknod"] = "ok"
        except OSError as error:
            found["mknod"] = os.strerror(error.errno or 0)
        return found

    def ask(cgroup: Cgroup) -> dict[str, Any]:
        reader, writer = os.pipe()

        def work() -> int:
            os.write(writer, json.dumps(tries()).encode())
            return 0

        with child(cgroup, work) as pid:
            ended(pid)
            os.close(writer)
            with os.fdopen(reader, "rb") as file:
                answer: dict[str, Any] = json.loads(file.read())
                return answer

    fuse = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    with branch(path, {"devices": default_device_rules()}) as cgroup:
        first = ask(cgroup)
        cgroup.update({"devices": [*default_device_rules(), fuse]})
        second = ask(cgroup)
        cgroup.update({"devices": [{"allow": False, "access": "rwm"}]})
        third = ask(cgroup)
        programs = None
        fd = cgroup.directory_fd()
        if fd is not None:
            programs = len(bpf.attached_device_programs(fd))
            os.close(fd)
        return {"first": first, "second": second, "third": third, "programs": programs}


def memory(path: str) -> Any:
    """Limits grow and shrink in any order; a process over the limit is killed and counted."""

    def work() -> int:
        return len([bytearray(b"x" * MIB) for _ in range(64)])

    limits = {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}
    with branch(path, limits) as cgroup, child(cgroup, work) as pid:
        signal = os.WTERMSIG(ended(pid))
        count = cgroup.oom_count()
        seen = []
        for limit in (64, 32, 128):
            cgroup.update({"memory": {"limit": limit * MIB, "swap": 2 * limit * MIB}})
            seen.append(cgroup.stats()["memory"]["limit"] == limit * MIB)
        cgroup.update({"memory": {"limit": -1}})
        return {"signal": signal, "oom": count, "seen": seen, "unlimited": cgroup.stats()["memory"]["limit"]}


PROCESSOR_AND_PIDS = {
    "cpu": {"shares": 512, "quota": 5000, "period": 10000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 4},
}


def too_many() -> int:
    """Fork more often than the limit of pids lets; 7 when the kernel refuses."""
    try:
        for _ in range(10):
            if os.fork() == 0:
                time.sleep(60)
    except BlockingIOError:
        return 7
    return 0


def limits(path: str) -> Any:
    """cpu, cpuset and pids as the kernel then shows them; a fork over the limit fails."""

    with branch(path, PROCESSOR_AND_PIDS) as cgroup, child(cgroup, too_many) as pid:
        code = os.WEXITSTATUS(ended(pid))
        cpu, cpuset = cgroup.paths["cpu"], cgroup.paths["cpuset"]
        shown = {
            name: open(f"{where}/{name}").read().strip()
            for where, name in (
                (cpu, "cpu.shares"),
                (cpu, "cpu.cfs_quota_us"),
                (cpu, "cpu.cfs_period_us"),
                (cpuset, "cpuset.cpus"),
            )
        }
        return {"exit": code, "pids": cgroup.stats()["pids"]["limit"], **shown}


def limits_v2(path: str) -> Any:
    """cpu, cpuset, pids, io and swap as v2 shows them; a fork over the limit fails; controllers reach the branch."""

    asked = {**PROCESSOR_AND_PIDS, "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB}}
    with branch(path, asked) as cgroup, child(cgroup, too_many) as pid:
        code = os.WEXITSTATUS(ended(pid))
        (directory,) = cgroup.directories()
        names = ["cpu.weight", "cpu.max", "cpuset.cpus", "pids.max", "memory.max", "memory.swap.max", "memory.low"]
        shown = {name: open(f"{directory}/{name}").read().strip() for name in names}
        cgroup.update({"cpu": {"quota": -1}, "pids": {"limit": -1}, "memory": {"limit": -1, "swap": -1}})
        after = {name: open(f"{directory}/{name}").read().strip() for name in names[1:]}
        return {"exit": code, "shown": shown, "after": after}


def delegated(path: str) -> Any:
    """A controller that only v2 has reaches the branch from the root, and limits there."""
    with branch(path, {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}) as cgroup:
        (found,) = [d for d in cgroup.directories() if os.path.exists(f"{d}/hugetlb.2MB.max")]
        with open(f"{found}/hugetlb.2MB.max") as file:
            return int(file.read())


def refused(path: str) -> Any:
    """What cannot be limited here is named; nothing is left behind by the caller's removal."""
    found = {}
    for name, resources in (
        ("memory", {"memory": {"limit": 64 * MIB}}),
        ("pids", {"pids": {"limit": 5}}),
        ("cpu", {"cpu": {"quota": 5000}}),
        ("cpuset", {"cpu": {"cpus": "512"}}),
        ("unified", {"unified": {"memory.high": "5"}}),
    ):
        cgroup = open_cgroup(path)
        try:
            cgroup.create(resources)
            found[name] = "ok"
        except WherryError as error:
            found[name] = f"{type(error).__name__}: {error}"
        finally:
            cgroup.remove()
    with contextlib.suppress(KernelError):
        open_cgroup(os.path.dirname(path)).remove(seconds=0.1)
    return found


def speed(path: str) -> Any:
    """Milliseconds of create and add under default rules, primed: the best of a few, of many where others are busy."""
    spent: list[float] = []
    with branch(f"{path}-first"):
        for turn in range(60):
            if turn >= 9 and min(spent) < 15:
                break
            with child(None) as pid:
                cgroup = open_cgroup(f"{path}-{turn}")
                prime_migration()
                start = time.perf_counter()
                cgroup.create({"devices": default_device_rules()})
                cgroup.add(pid)
                spent.append((time.perf_counter() - start) * 1000)
                cgroup.kill()
            cgroup.remove()
    return min(spent)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
