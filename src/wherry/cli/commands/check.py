"""`system check`: is the store whole, and mend it."""

import os

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line, out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _check(command: Invocation) -> int:
    from wherry.client.quickjson import loads

    response = command.client.request("POST", "/wherry/v1/check", {"repair": command["repair"] or None})
    watched = os.isatty(1) and not command["quiet"]
    report: dict[str, Any] | None = None
    buffer = b""
    while data := response.read_some():
        *lines, buffer = (buffer + data).split(b"\n")
        for text in lines:
            message = loads(text)
            if "error" in message:
                raise Failure(f"Error response from daemon: {message['error']}")
            report = message.get("aux", report)
            if watched and "status" in message:
                out(f"\r\x1b[K{message['status']} {message['id']}")
    if watched:
        out("\r\x1b[K")
    if report is None:
        raise Failure("the engine ended before the check did")
    return _tell(report, quiet=command["quiet"])


def _tell(report: "dict[str, Any]", *, quiet: bool) -> int:
    findings = report["Findings"]
    for one in findings:
        used = f" (of {', '.join(one['Images'])})" if one["Images"] else " (of no image)"
        line(f"{one['Kind']} {one['Id']}{used}: {one['Problem']}: {one['Detail']}")
        if one["Outcome"]:
            line(f"  {one['Outcome']}")
    bad = sum(not one["Mended"] for one in findings)
    if not quiet:
        mended = len(findings) - bad
        line(
            f"Checked {report['Images']} images, {report['Blobs']} blobs, {report['Snapshots']} layers: "
            + (f"{bad} not as they should be" if bad else "all whole")
            + (f", {mended} mended" if mended else "")
        )
    return 1 if bad else 0


COMMANDS = {
    "system check": Command(
        "[OPTIONS]",
        "Look whether every image is there and whole",
        _check,
        (
            Flag("quiet", "q", "bool", "Only say what is not as it should be"),
            Flag("repair", "", "bool", "Mend what can be mended: unpack again, or pull again"),
        ),
    )
}
