"""Statistics: what a container uses now, from its cgroup and its network namespace, in Docker's shape."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from wherry.containers import clock, groups
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.errors import WherryError
from wherry.runtime.cgroups import open_cgroup

INTERVAL = 1.0

Json = dict[str, Any]

_TICKS = 10_000_000  # nanoseconds in a tick of /proc/stat
_UNLIMITED = (1 << 64) - 1
_BLKIO = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_NO_THROTTLING = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}


def _no_cpu() -> Json:
    usage = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    return {"cpu_usage": usage, "throttling_data": dict(_NO_THROTTLING)}


async def once(context: Context, container: Container, *, quick: bool) -> Json:
    """One answer, with the processor's use a second before it beside it.

    Args:
        quick: do not wait for that second; there is nothing before it then.
    """
    before = await _sample(context, container)
    if quick or not container.running:
        return _joined(container, before, None)
    await asyncio.sleep(INTERVAL)
    return _joined(container, await _sample(context, container), before)


async def stream(context: Context, container: Container, *, quick: bool) -> AsyncGenerator[Json, None]:
    """An answer each second, until the container is removed.

    Args:
        quick: begin at once, with nothing before the first.
    """
    before: Json | None = None
    if not quick:
        before = await _sample(context, container)
        await asyncio.sleep(INTERVAL)
    while container.status not in ("removing", "dead"):
        now = await _sample(context, container)
        yield _joined(container, now, before)
        before = now
        await asyncio.sleep(INTERVAL)


async def _sample(context: Context, container: Container) -> Json | None:
    """What is used now; None when it does not run."""
    if not container.running:
        return None
    return await asyncio.get_running_loop().run_in_executor(None, _read, context, container)


def _joined(container: Container, now: Json | None, before: Json | None) -> Json:
    names = {"name": f"/{container.name}", "id": container.id}
    if now is None:
        return {
            "read": clock.ZERO,
            "preread": clock.ZERO,
            "pids_stats": {},
            "blkio_stats": dict.fromkeys(_BLKIO),
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": _no_cpu(),
            "precpu_stats": _no_cpu(),
            "memory_stats": {},
            **names,
        }
    return {
        "read": now["read"],
        "preread": before["read"] if before else clock.ZERO,
        "pids_stats": now["pids_stats"],
        "blkio_stats": now["blkio_stats"],
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": now["cpu_stats"],
        "precpu_stats": before["cpu_stats"] if before else _no_cpu(),
        "memory_stats": now["memory_stats"],
        **names,
        **({"networks": now["networks"]} if now["networks"] else {}),
    }


def _read(context: Context, container: Container) -> Json | None:
    group = open_cgroup(groups.cgroup_path(context, container.id))
    try:
        used = group.stats()
    except (WherryError, OSError):
        return None  # it has ended meanwhile
    unified = context.machine.cgroup_version == "v2"
    return {
        "read": clock.rfc3339(time.time_ns()),
        "pids_stats": _pids(used["pids"], unified=unified),
        "blkio_stats": _block_io(used["blkio"], unified=unified),
        "cpu_stats": _cpu(used["cpu"], context.machine.cpus),
        "memory_stats": _memory(used["memory"], context.machine.memory, unified=unified),
        "networks": _networks(container),
    }


def _pids(pids: Json, *, unified: bool) -> Json:
    if pids["current"] is None:
        return {}  # no controller counts them
    found = {"current": pids["current"]} if pids["current"] else {}
    limit = pids["limit"]
    if limit:
        found["limit"] = limit
    elif unified:
        found["limit"] = _UNLIMITED
    return found


def _cpu(cpu: Json, count: int) -> Json:
    return {
        "cpu_usage": {
            "total_usage": cpu["usage"],
            **({"percpu_usage": cpu["per_cpu"]} if cpu["per_cpu"] else {}),
            "usage_in_kernelmode": cpu["system"],
            "usage_in_usermode": cpu["user"],
        },
        "system_cpu_usage": _system(),
        "online_cpus": count,
        "throttling_data": {
            "periods": cpu["periods"],
            "throttled_periods": cpu["throttled_periods"],
            "throttled_time": cpu["throttled_time"],
        },
    }


def _system() -> int:
    """Time of all processors, in nanoseconds (proc(5): the first seven fields, as dockerd adds them up)."""
    with open("/proc/stat", encoding="ascii") as file:
        return sum(int(word) for word in file.readline().split()[1:8]) * _TICKS


def _memory(memory: Json, host: int, *, unified: bool) -> Json:
    if memory["usage"] is None:
        return {"stats": memory["stat"]}  # no controller counts it: a limit would be one that nobody holds
    limit = memory["limit"]
    found: Json = {"usage": memory["usage"]}
    if memory["peak"] and not unified:
        found["max_usage"] = memory["peak"]
    found["stats"] = memory["stat"]
    if memory["failures"]:
        found["failcnt"] = memory["failures"]
    found["limit"] = min(limit, host) if limit else host
    return found


def _block_io(blkio: Json, *, unified: bool) -> Json:
    found: Json = dict.fromkeys(_BLKIO) if unified else {name: [] for name in _BLKIO}
    found["io_service_bytes_recursive"] = blkio["bytes"] or found["io_service_bytes_recursive"]
    found["io_serviced_recursive"] = blkio["operations"] or found["io_serviced_recursive"]
    return found


def _networks(container: Container) -> dict[str, Json]:
    """The counters of the container's interfaces, as it sees them; none where it has the host's network."""
    mode = container.record.host_config.network_mode
    if mode in ("host", "none") or not container.pid:
        return {}
    names = ("bytes", "packets", "errors", "dropped")
    found: dict[str, Json] = {}
    try:
        with open(f"/proc/{container.pid}/net/dev", encoding="ascii", errors="replace") as file:
            lines = file.readlines()[2:]
    except OSError:
        return {}
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 12:
            received = {f"rx_{what}": numbers[at] for at, what in enumerate(names)}
            sent = {f"tx_{what}": numbers[8 + at] for at, what in enumerate(names)}
            found[name.strip()] = {**received, **sent}
    return found
