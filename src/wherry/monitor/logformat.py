"""From json-file records to what a client of `docker logs` gets.

A monitor gives all records of one read the same time, so a file is a sequence of runs of records that end alike. A run
is decoded by one call of the C scanner and framed by one comprehension; a record that is like no other (another
program's log has a time for each) takes the slower path through the JSON parser.

Times are compared as text: fixed RFC 3339 in UTC with nine digits sorts as time does.
"""

import struct
from json import loads
from json.decoder import scanstring  # type: ignore[attr-defined]  # c_scanstring, as JSONDecoder uses it

from wherry.values import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEAD = b'{"log":"'
_SUFFIX = b'","stream":"'
_RUN_WINDOW = 4096
_STREAMS = {"stdout": 1, "stderr": 2}


class _Heads(dict[int, bytes]):
    """Frame headers of one stream, by payload length."""

    def __init__(self, stream: int) -> None:
        super().__init__()
        self._stream = stream

    def __missing__(self, length: int) -> bytes:
        head = self[length] = struct.pack(">BxxxI", self._stream, length)
        return head


def fixed_time(text: str) -> str:
    """An RFC 3339 time in UTC with nine digits.

    Raises:
        ValueError: it names an offset, and is no time.
    """
    if not text.endswith("Z"):
        return times.exact(times.parse(text))
    if len(text) == 30:
        return text
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9.9}Z"


class Formatter:
    """Turns whole records into output.

    Args:
        stdout: wanted.
        stderr: wanted.
        since: drop records before this time (`fixed_time` form, or empty).
        until: stop at the first record after this time (or empty).
        timestamps: put the time in front of each record.
        details: put the attributes in front, as Docker does.
        framed: give each record Docker's 8-byte header.
    """

    __slots__ = ("_details", "_framed", "_heads", "_since", "_timestamps", "_until", "_wanted", "done")

    def __init__(
        self,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        details: bool = False,
        framed: bool = True,
    ) -> None:
        self._wanted = {name for name, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted}
        self._since = since
        self._until = until
        self._timestamps = timestamps
        self._details = details
        self._framed = framed
        self._heads = {"stdout": _Heads(1), "stderr": _Heads(2)}
        self.done = False

    def feed(self, records: bytes) -> bytes:
        """Output for `records`: whole lines of a log file. Sets `done` once `until` has passed."""
        out: list[bytes] = []
        position, end = 0, len(records)
        while position < end and not self.done:
            stop = newline = records.index(b"\n", position) + 1
            suffix_at = records.find(_SUFFIX, position, newline)
            if suffix_at > 0 and records.startswith(_HEAD, position):
                suffix = records[suffix_at:newline]
                stop = _run_end(records, suffix, newline)
                if self._run(records[position + len(_HEAD) : stop - len(suffix)], suffix, out):
                    position = stop
                    continue
            for line in records[position:stop].splitlines():
                if not self.done:
                    self._record(line, out)
            position = stop
        return b"".join(out)

    def _run(self, body: bytes, suffix: bytes, out: "list[bytes]") -> bool:
        """Decode records with one suffix; false when it is not what it looked like."""
        if b"\x7f" in body:
            return False
        try:
            tail = loads(b'{"log":"' + suffix)
            stream, at, attrs = tail["stream"], fixed_time(tail["time"]), tail.get("attrs")
            # between two records of the run: the end of one and the head of the next
            joined = body.replace(suffix + _HEAD, b"\x7f").decode() + '"'
            text, used = scanstring(joined, 0)
        except (ValueError, KeyError, TypeError):
            return False
        if used != len(joined) or stream not in _STREAMS:
            return False
        if self._passes(stream, at):
            self._emit(stream, at, attrs, text.encode("utf-8", "replace").split(b"\x7f"), out)
        return True

    def _record(self, line: bytes, out: "list[bytes]") -> None:
        """One record by the JSON parser; one that is broken (a crash cut it) is left out."""
        try:
            record = loads(line)
            text, stream, at = record["log"], record["stream"], fixed_time(record["time"])
        except (ValueError, KeyError, TypeError):
            return
        if isinstance(text, str) and stream in _STREAMS and self._passes(stream, at):
            self._emit(stream, at, record.get("attrs"), [text.encode("utf-8", "replace")], out)

    def _passes(self, stream: "Any", at: str) -> bool:
        if self._until and at > self._until:
            self.done = True
            return False
        return stream in self._wanted and not (self._since and at < self._since)

    def _emit(self, stream: str, at: str, attrs: "Any", lines: "list[bytes]", out: "list[bytes]") -> None:
        prefix = b""
        if self._timestamps:
            prefix = at.encode() + b" "
        if self._details:
            pairs = sorted((attrs or {}).items())
            prefix += ",".join(f"{_escape(str(k))}={_escape(str(v))}" for k, v in pairs).encode() + b" "
        if self._framed:
            heads, extra = self._heads[stream], len(prefix)
            if extra:
                out.extend([heads[len(line) + extra] + prefix + line for line in lines])
            else:
                out.extend([heads[len(line)] + line for line in lines])
        elif prefix:
            out.extend([prefix + line for line in lines])
        else:
            out.extend(lines)


def _run_end(records: bytes, suffix: bytes, position: int) -> int:
    """Where the run of records that end with `suffix` ends; `position` is behind its first record.

    The window grows with the run, so that short runs do not cost a look at everything that follows.
    """
    end, window = len(records), _RUN_WINDOW
    while position < end:
        limit = min(end, position + window)
        last = records.rfind(suffix, position, limit)
        if last >= 0:
            position = last + len(suffix)
        if limit == end or records.find(b"\n", position, limit) >= 0:
            return position  # what follows is a record with another end, or nothing
        window *= 4
    return position


def _escape(text: str) -> str:
    from urllib.parse import quote_plus

    return quote_plus(text)
