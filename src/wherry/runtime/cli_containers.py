"""The verbs of `wherry-runtime` that enter no container: look, signal, pause, delete."""

import json
import os
import select
import sys
import time

from wherry.errors import Conflict, InvalidArgument, InvalidSpec, KernelError, NotFound, NotRunning, WherryError
from wherry.linux import signals
from wherry.linux.process import pidfd_send_signal
from wherry.oci.runtime_config import parse
from wherry.runtime import state as st
from wherry.runtime.cgroups import open_cgroup
from wherry.runtime.default_spec import default_spec
from wherry.runtime.hooks import run_hooks, state_json
from wherry.runtime.join import pidfd_of
from wherry.runtime.mount_options import FLAG_WORDS, PROPAGATION_WORDS
from wherry.values import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.runtime.arguments import Arguments
    from wherry.runtime.state import ContainerState

_KILL_SECONDS = 10.0


def spec(args: "Arguments", _root: str) -> int:
    """Write config.json."""
    path = os.path.join(args.text("bundle", "."), "config.json")
    if os.path.exists(path):
        raise Conflict(f"File {path} exists. Remove it first")
    value = default_spec()
    if args.has("rootless"):
        value["linux"]["namespaces"].append({"type": "user"})
        for key, host in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid())):
            value["linux"][key] = [{"containerID": 0, "hostID": host, "size": 1}]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent="\t")
        file.write("\n")
    return 0


def state(args: "Arguments", root: str) -> int:
    """Print the state document."""
    json.dump(st.load(root, args.words[0]).document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def list_(args: "Arguments", root: str) -> int:
    """Print all containers."""
    found = [container.document() for container in st.every(root)]
    if args.has("quiet"):
        sys.stdout.write("".join(f"{item['id']}\n" for item in found))
        return 0
    form = args.text("format", "table")
    if form == "json":
        json.dump(found, sys.stdout)
        sys.stdout.write("\n")
        return 0
    if form != "table":
        raise InvalidArgument(f"invalid format option: {form}")
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [(i["id"], str(i["pid"]), i["status"], i["bundle"], i["created"], i["owner"] or "root") for i in found]
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(6)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("".join(cells).rstrip() + "\n")
    return 0


def start(args: "Arguments", root: str) -> int:
    """Let a created container execute its program."""
    container = st.load(root, args.words[0])
    status = container.status()
    if status != st.CREATED:
        raise Conflict(f"cannot start a container that is {'already running' if status == st.RUNNING else status}")
    try:
        fifo = os.open(container.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(fifo, b"\0")
        os.close(fifo)
        os.unlink(container.fifo)
    except OSError as error:
        raise KernelError("start", error.errno or 0, container.fifo) from None
    poststart(container)
    return 0


def poststart(container: "ContainerState") -> None:
    """Run poststart hooks; a failure is a warning (runtime-spec)."""
    _hooks(container, "poststart", "running", container.pid)


def _hooks(container: "ContainerState", kind: str, status: str, pid: int) -> None:
    hooks = parse(container.config).hooks[kind]
    if not hooks:
        return
    annotations = container.config.get("annotations") or {}
    try:
        run_hooks(kind, hooks, state_json(container.container_id, status, pid, container.bundle, annotations))
    except WherryError as error:
        os.write(2, os.fsencode(f'level=warning msg="{error}"\n'))


def kill(args: "Arguments", root: str) -> int:
    """Send a signal."""
    container = st.load(root, args.words[0])
    number = signals.parse(args.words[1] if len(args.words) > 1 else "TERM")
    if number is None:
        raise InvalidArgument(f"unknown signal {args.words[1]!r}")
    if args.has("all"):
        _signal_all(container, number)
    else:
        if container.status() == st.STOPPED:
            raise NotRunning("container not running")
        _signal(container.pid, container.start_time, number)
    if number == signals.SIGKILL and container.paused:
        # a frozen process takes even this only when it is thawed
        open_cgroup(container.cgroup).freeze(False)
        container.paused = False
        container.save()
    return 0


def _signal(pid: int, started: int | None, number: int) -> None:
    pidfd = pidfd_of(pid, started)
    try:
        if not pidfd_send_signal(pidfd, number):
            raise NotRunning("container not running")
    finally:
        os.close(pidfd)


def _signal_all(container: "ContainerState", number: int) -> None:
    cgroup = open_cgroup(container.cgroup)
    if number == signals.SIGKILL:
        cgroup.kill()
        return
    for pid in cgroup.pids():
        try:
            _signal(pid, None, number)
        except NotRunning:
            continue  # it ended meanwhile


def delete(args: "Arguments", root: str) -> int:
    """Remove a stopped container, with `--force` a running one."""
    try:
        container = st.load(root, args.words[0])
    except NotFound:
        if not args.has("force"):
            raise
        return 0
    status = container.status()
    if status not in (st.STOPPED, st.CREATED) and not args.has("force"):
        raise Conflict(f"cannot delete container {container.container_id} that is not stopped: {status}")
    destroy(container)
    return 0


def destroy(container: "ContainerState") -> None:
    """Kill what runs, remove the cgroup, run poststop hooks, forget the container."""
    if container.pid and container.status() != st.STOPPED:
        pidfd = pidfd_of(container.pid, container.start_time)
        try:
            pidfd_send_signal(pidfd, signals.SIGKILL)
            if container.paused:
                open_cgroup(container.cgroup).freeze(False)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_KILL_SECONDS * 1000):
                raise Conflict(f"container {container.container_id} does not end after SIGKILL")
        finally:
            os.close(pidfd)
    cgroup = open_cgroup(container.cgroup)
    if cgroup.exists():
        cgroup.kill()
        cgroup.remove()
    _hooks(container, "poststop", "stopped", 0)
    container.remove()


def pause(args: "Arguments", root: str) -> int:
    """Freeze."""
    return _freeze(st.load(root, args.words[0]), True)


def resume(args: "Arguments", root: str) -> int:
    """Thaw."""
    return _freeze(st.load(root, args.words[0]), False)


def _freeze(container: "ContainerState", on: bool) -> int:
    status = container.status()
    if on and status not in (st.RUNNING, st.CREATED):
        raise NotRunning(f"container not running or created: {status}")
    if not on and status != st.PAUSED:
        raise Conflict("container not paused")
    open_cgroup(container.cgroup).freeze(on)
    container.paused = on
    container.save()
    return 0


def update(args: "Arguments", root: str) -> int:
    """Change limits: an OCI resources object, or flags."""
    container = st.load(root, args.words[0])
    resources = _read_resources(args.text("resources")) if args.has("resources") else _flag_resources(args)
    open_cgroup(container.cgroup).update(resources)
    return 0


def _read_resources(path: str) -> "dict[str, Any]":
    try:
        if path == "-":
            value = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
    except ValueError as error:
        raise InvalidSpec(f"resources: {error}") from None
    if not isinstance(value, dict):
        raise InvalidSpec("resources must be an object")
    return value


def _flag_resources(args: "Arguments") -> "dict[str, Any]":
    found: dict[str, Any] = {}
    for section, key, flag in (
        ("memory", "limit", "memory"),
        ("memory", "reservation", "memory_reservation"),
        ("memory", "swap", "memory_swap"),
        ("cpu", "period", "cpu_period"),
        ("cpu", "quota", "cpu_quota"),
        ("cpu", "shares", "cpu_share"),
        ("pids", "limit", "pids_limit"),
        ("blockIO", "weight", "blkio_weight"),
    ):
        if args.number(flag) is not None:
            found.setdefault(section, {})[key] = args.number(flag)
    for key, flag in (("cpus", "cpuset_cpus"), ("mems", "cpuset_mems")):
        if args.text(flag):
            found.setdefault("cpu", {})[key] = args.text(flag)
    return found


def ps(args: "Arguments", root: str) -> int:
    """Print the container's processes: their pids as JSON, or the rows that ps(1) gives for them."""
    container = st.load(root, args.words[0])
    pids = open_cgroup(container.cgroup).pids()
    if args.text("format", "table") == "json":
        json.dump(sorted(pids), sys.stdout)
        sys.stdout.write("\n")
        return 0
    read, write = os.pipe()
    words = ["ps", *(args.words[1:] or ["-ef"])]
    child = os.posix_spawnp("ps", words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as output:
        lines = output.read().splitlines()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise WherryError("ps failed")
    header = lines[0].split() if lines else []
    if "PID" not in header:
        raise WherryError("couldn't find PID field in ps output")
    column = header.index("PID")
    wanted = {str(pid) for pid in pids}
    for number, line in enumerate(lines):
        fields = line.split()
        if number == 0 or (len(fields) > column and fields[column] in wanted):
            sys.stdout.write(line + "\n")
    return 0


def features(_args: "Arguments", _root: str) -> int:
    """Print what is implemented (runtime-spec's features document)."""
    from wherry.linux.capability import NAMES
    from wherry.oci.runtime_config import HOOK_KINDS, NAMESPACE_TYPES

    value = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": st.OCI_VERSION,
        "hooks": list(HOOK_KINDS),
        "mountOptions": sorted([*FLAG_WORDS, *PROPAGATION_WORDS, "bind", "rbind", "tmpcopyup"]),
        "linux": {
            "namespaces": sorted(NAMESPACE_TYPES),
            "capabilities": list(NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
            "seccomp": {"enabled": True},
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
    }
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def now() -> str:
    """The time as state documents write it."""
    return times.exact(time.time_ns())


VERBS: "dict[str, Callable[[Arguments, str], int]]" = {
    "spec": spec,
    "state": state,
    "list": list_,
    "start": start,
    "kill": kill,
    "delete": delete,
    "pause": pause,
    "resume": resume,
    "update": update,
    "ps": ps,
    "features": features,
}
