"""`stats`: what containers use, once or every second."""

import time

from wherry.cli.commands.common import FORMAT
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Row, render, short_id
from wherry.cli.output import out
from wherry.client.errors import ServerError
from wherry.client.http import quote
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TABLE = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
_TITLES = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_INTERVAL = 1.0
# home, and behind each line and at the end: clear what was there
_HOME, _LINE_END, _REST = "\x1b[H", "\x1b[K\n", "\x1b[J"


def _cpu(row: Row) -> str:
    now, before = row.item["cpu_stats"], row.item["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    whole = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    if used <= 0 or whole <= 0 or not before.get("system_cpu_usage"):
        return "0.00%"
    return f"{used / whole * (now.get('online_cpus') or 1) * 100:.2f}%"


def _memory(row: Row) -> "tuple[int, int]":
    memory = row.item["memory_stats"]
    usage, stat = int(memory.get("usage", 0)), memory.get("stats") or {}
    # what the kernel would give back at once is not counted; v1 has the one key, v2 the other
    inactive = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    return (usage - inactive if inactive < usage else usage), int(memory.get("limit", 0))


def _memory_usage(row: Row) -> str:
    usage, limit = _memory(row)
    return f"{sizes.binary(usage)} / {sizes.binary(limit)}"


def _memory_percent(row: Row) -> str:
    usage, limit = _memory(row)
    return f"{usage / limit * 100 if limit else 0:.2f}%"


def _network(row: Row) -> str:
    networks = (row.item.get("networks") or {}).values()
    received, sent = (sum(network[key] for network in networks) for key in ("rx_bytes", "tx_bytes"))
    return f"{sizes.human(received, 3)} / {sizes.human(sent, 3)}"


def _block(row: Row) -> str:
    totals = {"r": 0, "w": 0}
    for entry in row.item["blkio_stats"].get("io_service_bytes_recursive") or ():
        kind = entry["op"][:1].lower()
        if kind in totals:
            totals[kind] += entry["value"]
    return f"{sizes.human(totals['r'], 3)} / {sizes.human(totals['w'], 3)}"


_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "Container": lambda row: row.item["asked"],
    "ID": lambda row: short_id(row.item["id"]) if row.trunc else row.item["id"],
    "Name": lambda row: row.item["name"].removeprefix("/"),
    "CPUPerc": _cpu,
    "MemUsage": _memory_usage,
    "MemPerc": _memory_percent,
    "NetIO": _network,
    "BlockIO": _block,
    "PIDs": lambda row: str(row.item["pids_stats"].get("current", 0)),
}


class StatsRow(Row):
    """One container's use."""

    go_type = "*formatter.statsContext"
    fields = _FIELDS


def _names(command: Invocation) -> "list[str]":
    if command.args:
        return command.args
    listed = command.client.call("GET", "/containers/json", {"all": command["all"] or None})
    return [container["Id"] for container in listed]


def _round(command: Invocation, before: "dict[str, Any]", *, quick: bool) -> "list[dict[str, Any]]":
    """One sample of each container, asked of all at once.

    Args:
        command: the invocation.
        before: the samples of the round before, by name; replaced by those of this one.
        quick: take what was before from `before`, and do not wait for a second sample.
    """
    query = {"stream": 0, "one-shot": quick or None}
    pending = [
        (name, command.client.begin("GET", f"/containers/{quote(name)}/stats", query)) for name in _names(command)
    ]
    found: list[dict[str, Any]] = []
    failure: ServerError | None = None
    for name, request in pending:
        try:
            sample = request.finish().check().json()
        except ServerError as error:
            # one that was listed may be gone by now; one that was named is missed
            failure = error if command.args else failure
            continue
        if quick and name in before:
            sample["precpu_stats"] = before[name]["cpu_stats"]
        sample["asked"] = name if command.args else short_id(name)
        found.append(sample)
    if failure is not None:
        raise failure
    before.clear()
    before.update({sample["asked"] if command.args else sample["id"]: sample for sample in found})
    return found


def _stats(command: Invocation) -> None:
    format_ = command["format"]
    before: dict[str, Any] = {}
    quick = False
    while True:
        samples = _round(command, before, quick=quick)
        rows = [StatsRow(sample, trunc=not command["no-trunc"]) for sample in samples]
        if command["no-stream"]:
            render(format_, rows, table=_TABLE, titles=_TITLES)
            return
        out(_HOME)
        render(format_, rows, table=_TABLE, titles=_TITLES, end=_LINE_END)
        out(_REST)
        quick = True
        time.sleep(_INTERVAL)


STATS = Command(
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    _stats,
    (
        Flag("all", "a", "bool", "Show all containers (default shows just running)"),
        FORMAT,
        Flag("no-stream", "", "bool", "Disable streaming stats and only pull the first result"),
        Flag("no-trunc", "", "bool", "Do not truncate output"),
    ),
    arguments=(0, None),
    aliases=("container stats", "stats"),
)
COMMANDS = {"stats": STATS, "container stats": STATS}
