"""`builder du`: what is in the builder's cache, and what it takes, as `docker buildx du` shows it."""

from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import out
from wherry.values import durations, sizes, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MUTABLE = ("source.local", "exec.cachemount", "source.git.checkout")


def _du(command: Invocation) -> None:
    found = command.client.call("GET", "/system/df", {"type": "build-cache"})
    entries = sorted(found.get("BuildCache") or [], key=lambda one: -one["Size"])
    if command["verbose"]:
        out("".join(_told(entry) for entry in entries))
    else:
        out("ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n" + "".join(_row(entry) for entry in entries))
    shared = sum(one["Size"] for one in entries if one["Shared"])
    total = sum(one["Size"] for one in entries)
    free = sum(one["Size"] for one in entries if not one["InUse"])
    if shared:
        out(f"Shared:\t\t{sizes.human(shared)}\nPrivate:\t{sizes.human(total - shared)}\n")
    out(f"Reclaimable:\t{sizes.human(free)}\nTotal:\t\t{sizes.human(total)}\n")


def _row(entry: "dict[str, Any]") -> str:
    id_ = entry["ID"] + ("*" if entry["Type"] in _MUTABLE else "")
    size = sizes.human(entry["Size"]) + ("*" if entry["Shared"] else "")
    return f"{id_:<40}\t{_word(not entry['InUse']):<5}\t\t{size:<10}\t{_used(entry)}\n"


def _told(entry: "dict[str, Any]") -> str:
    lines = [
        f"ID:\t\t{entry['ID']}",
        *([f"Parents:\t{', '.join(entry['Parents'])}"] if entry.get("Parents") else []),
        f"Created at:\t{entry['CreatedAt']}",
        f"Mutable:\t{_word(entry['Type'] in _MUTABLE)}",
        f"Reclaimable:\t{_word(not entry['InUse'])}",
        f"Shared:\t\t{_word(entry['Shared'])}",
        f"Size:\t\t{sizes.human(entry['Size'])}",
        *([f"Description:\t{entry['Description']}"] if entry.get("Description") else []),
        f"Usage count:\t{entry['UsageCount']}",
        *([f"Last used:\t{_used(entry)}"] if entry.get("LastUsedAt") else []),
        f"Type:\t\t{entry['Type']}",
    ]
    return "\n".join(lines) + "\n\n"


def _used(entry: "dict[str, Any]") -> str:
    return durations.ago(times.parse(entry["LastUsedAt"]) / 10**9) if entry.get("LastUsedAt") else ""


def _word(value: bool) -> str:
    return "true" if value else "false"


DU = Command(
    "",
    "Disk usage",
    _du,
    (Flag("verbose", "", "bool", "Provide a more verbose output"),),
    arguments=(0, 0),
)
COMMANDS = {"builder du": DU}
