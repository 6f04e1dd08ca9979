"""`update`: other limits and another restart policy for containers that are there."""

from wherry.cli.failure import Failure, joined
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import err, line
from wherry.cli.run_config import restart_policy
from wherry.cli.run_flags import CREATE_FLAGS
from wherry.client.http import quote
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIELDS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def _update(command: Invocation) -> None:
    values = command.values
    if not values.changed:
        raise Failure("you must provide one or more flags when using this command")
    body: dict[str, Any] = {name: values[flag] for flag, name in _FIELDS.items() if flag in values.changed}
    if values["restart"]:
        try:
            body["RestartPolicy"] = restart_policy(values["restart"])
        except ValueError as error:
            raise Failure(str(error)) from None
    errors: list[str] = []
    warnings: list[str] = []
    for name in values.args:
        try:
            answer = command.client.call("POST", f"/containers/{quote(name)}/update", body=body)
        except WherryError as error:
            errors.append(str(error))
            continue
        line(name)
        warnings += answer.get("Warnings") or []
    if warnings:
        err("\n".join(warnings))
    joined(errors)


_KNOWN = {flag.name: flag for flag in CREATE_FLAGS}
UPDATE = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    _update,
    (
        *(_KNOWN[name] for name in _FIELDS if name in _KNOWN),
        Flag("cpu-rt-period", "", "int", "Limit the CPU real-time period in microseconds"),
        Flag("cpu-rt-runtime", "", "int", "Limit the CPU real-time runtime in microseconds"),
        Flag("restart", "", "string", "Restart policy to apply when a container exits"),
    ),
    arguments=(1, None),
    aliases=("container update", "update"),
)
COMMANDS = {"update": UPDATE, "container update": UPDATE}
