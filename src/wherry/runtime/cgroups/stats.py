"""What a branch uses, in one shape for v1 and v2 (integers; times in nanoseconds, sizes in bytes; absent is None).

cpu     usage, user, system, per_cpu [..], periods, throttled_periods, throttled_time
memory  usage, peak, limit, failures, swap, stat {key: value}, inactive_file (what `docker stats` takes off)
pids    current, limit
blkio   bytes [{major, minor, op, value}…], operations [likewise]

Without the memory controller `usage` is absent, without the pids controller `current`.
"""

from wherry.runtime.cgroups.files import read_int, read_or, read_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# clock ticks of cpuacct.stat: 100 a second on every Linux port that Python runs on
_TICK = 10_000_000
_UNLIMITED = 1 << 62


def v1(paths: "Mapping[str, str]") -> "dict[str, Any]":
    """Read the v1 controllers in `paths` (controller -> directory)."""
    cpu, account = paths.get("cpu", ""), paths.get("cpuacct", "")
    memory, pids, blkio = paths.get("memory", ""), paths.get("pids", ""), paths.get("blkio", "")
    ticks, throttle = read_table(f"{account}/cpuacct.stat"), read_table(f"{cpu}/cpu.stat")
    stat = read_table(f"{memory}/memory.stat")
    return {
        "cpu": {
            "usage": read_int(f"{account}/cpuacct.usage") or 0,
            "user": ticks.get("user", 0) * _TICK,
            "system": ticks.get("system", 0) * _TICK,
            "per_cpu": [int(word) for word in read_or(f"{account}/cpuacct.usage_percpu").split()],
            "periods": throttle.get("nr_periods", 0),
            "throttled_periods": throttle.get("nr_throttled", 0),
            "throttled_time": throttle.get("throttled_time", 0),
        },
        "memory": {
            "usage": read_int(f"{memory}/memory.usage_in_bytes"),
            "peak": read_int(f"{memory}/memory.max_usage_in_bytes"),
            "limit": _limit(read_int(f"{memory}/memory.limit_in_bytes")),
            "failures": read_int(f"{memory}/memory.failcnt") or 0,
            "swap": stat.get("total_swap", 0),
            "inactive_file": stat.get("total_inactive_file", 0),
            "stat": stat,
        },
        "pids": {"current": read_int(f"{pids}/pids.current"), "limit": read_int(f"{pids}/pids.max")},
        "blkio": {
            "bytes": _blkio(f"{blkio}/blkio.throttle.io_service_bytes_recursive"),
            "operations": _blkio(f"{blkio}/blkio.throttle.io_serviced_recursive"),
        },
    }


def v2(directory: str) -> "dict[str, Any]":
    """Read a directory of the unified hierarchy."""
    cpu, stat = read_table(f"{directory}/cpu.stat"), read_table(f"{directory}/memory.stat")
    events = read_table(f"{directory}/memory.events")
    io_bytes, io_operations = _io(f"{directory}/io.stat")
    return {
        "cpu": {
            "usage": cpu.get("usage_usec", 0) * 1000,
            "user": cpu.get("user_usec", 0) * 1000,
            "system": cpu.get("system_usec", 0) * 1000,
            "per_cpu": [],
            "periods": cpu.get("nr_periods", 0),
            "throttled_periods": cpu.get("nr_throttled", 0),
            "throttled_time": cpu.get("throttled_usec", 0) * 1000,
        },
        "memory": {
            "usage": read_int(f"{directory}/memory.current"),
            "peak": read_int(f"{directory}/memory.peak"),
            "limit": read_int(f"{directory}/memory.max"),
            "failures": events.get("max", 0),
            "swap": read_int(f"{directory}/memory.swap.current") or 0,
            "inactive_file": stat.get("inactive_file", 0),
            "stat": stat,
        },
        "pids": {
            "current": read_int(f"{directory}/pids.current"),
            "limit": read_int(f"{directory}/pids.max"),
        },
        "blkio": {"bytes": io_bytes, "operations": io_operations},
    }


def _limit(value: "int | None") -> "int | None":
    return None if value is None or value > _UNLIMITED else value


def _blkio(path: str) -> "list[dict[str, Any]]":
    found = []
    for line in read_or(path).splitlines():
        words = line.split(" ")
        if len(words) == 3 and ":" in words[0]:
            major, minor = words[0].split(":")
            found.append({"major": int(major), "minor": int(minor), "op": words[1], "value": int(words[2])})
    return found


def _io(path: str) -> "tuple[list[dict[str, Any]], list[dict[str, Any]]]":
    sizes: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    names = {
        "rbytes": (sizes, "read"),
        "wbytes": (sizes, "write"),
        "rios": (counts, "read"),
        "wios": (counts, "write"),
    }
    for line in read_or(path).splitlines():
        device, *pairs = line.split(" ")
        major, colon, minor = device.partition(":")
        if not colon:
            continue
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in names:
                target, operation = names[key]
                target.append({"major": int(major), "minor": int(minor), "op": operation, "value": int(value)})
    return sizes, counts
