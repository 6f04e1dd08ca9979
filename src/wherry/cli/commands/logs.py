"""`logs`: what a container wrote."""

import time

from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import write_all
from wherry.cli.streams import Demux
from wherry.client.http import quote
from wherry.values import times


def moment(text: str) -> str:
    """A timestamp, date or duration as the seconds that the API takes; what is none of them goes to it as it is."""
    from wherry.cli.failure import Failure
    from wherry.values import durations

    if not text:
        return ""
    try:
        if text == "0":
            return text
        nanoseconds = int(time.time() * 1e9) - durations.parse(text)
        return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
    except ValueError:
        pass
    whole, point, part = text.partition(".")
    if whole.removeprefix("-").isdigit() and (not point or part.isdigit()):
        return text
    # as much of `2013-01-02T15:04:05` as there is, in local time unless a zone is named
    stamp = text
    try:
        if len(stamp) == 10:
            stamp += "T00:00:00"
        elif len(stamp) == 13:
            stamp += ":00:00"
        elif len(stamp) == 16:
            stamp += ":00"
        if not stamp.endswith(("Z", "z")) and stamp[-6:-5] not in ("+", "-"):
            seconds, nanoseconds = divmod(times.parse(stamp + "Z"), 10**9)
            seconds += int(time.mktime((*time.gmtime(seconds)[:8], -1))) - seconds
        else:
            seconds, nanoseconds = divmod(times.parse(stamp), 10**9)
    except (ValueError, IndexError):
        raise Failure(f'invalid value for "since": failed to parse value as time or duration: "{text}"') from None
    return f"{seconds}.{nanoseconds:09d}"


def _logs(command: Invocation) -> None:
    client, name = command.client, command.args[0]
    container = client.call("GET", f"/containers/{quote(name)}/json")
    response = client.request(
        "GET",
        f"/containers/{quote(container['Id'])}/logs",
        {
            "stdout": 1,
            "stderr": 1,
            "since": moment(command["since"]),
            "until": moment(command["until"]),
            "timestamps": command["timestamps"] or None,
            "details": command["details"] or None,
            "follow": command["follow"] or None,
            "tail": command["tail"],
        },
    )
    demux = None if container["Config"]["Tty"] else Demux()
    while data := response.read_some():
        if demux is None:
            write_all(1, data)
        else:
            demux.feed(data)


_SINCE = 'Show logs {} timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'
LOGS = Command(
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    _logs,
    (
        Flag("details", "", "bool", "Show extra details provided to logs"),
        Flag("follow", "f", "bool", "Follow log output"),
        Flag("since", "", "string", _SINCE.format("since")),
        Flag("tail", "n", "string", 'Number of lines to show from the end of the logs (default "all")', "all"),
        Flag("timestamps", "t", "bool", "Show timestamps"),
        Flag("until", "", "string", _SINCE.format("before a")),
    ),
    arguments=(1, 1),
    aliases=("container logs", "logs"),
)
COMMANDS = {"logs": LOGS, "container logs": LOGS}
