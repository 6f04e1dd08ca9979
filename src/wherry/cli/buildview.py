"""How a build is shown: a list that is drawn anew on a terminal, lines in a file, the messages as they are."""

import os
import time
from _thread import allocate_lock, start_new_thread

from wherry.cli.output import write_all
from wherry.values import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TAIL = 6  # lines of output of a running step that a terminal shows
_EVERY = 0.1


class Vertex:
    """One step as it was told."""

    __slots__ = (
        "cached",
        "canceled",
        "completed",
        "digest",
        "error",
        "lines",
        "name",
        "number",
        "partial",
        "started",
        "statuses",
    )

    def __init__(self, digest: str, number: int) -> None:
        self.digest = digest
        self.number = number
        self.name = ""
        self.started = 0.0
        self.completed = 0.0
        self.cached = False
        self.canceled = False
        self.error = ""
        self.lines: list[str] = []
        self.partial = ""
        self.statuses: dict[str, tuple[int, int]] = {}

    def seconds(self, now: float) -> float:
        """How long it took, or takes."""
        return max(0.0, (self.completed or now) - self.started) if self.started else 0.0


def moment(text: str) -> float:
    """An RFC 3339 time as seconds; 0 for none."""
    return times.parse(text) / 10**9 if text else 0.0


class Build:
    """What is known of a build, from its messages."""

    def __init__(self) -> None:
        self.vertexes: dict[str, Vertex] = {}
        self.warnings: list[dict[str, Any]] = []

    def take(self, message: "dict[str, Any]") -> "list[tuple[Vertex, str, Any]]":
        """Take a message; returns (vertex, `started`, `done`, `error`, `line`…; what) of what is new."""
        from binascii import a2b_base64

        news: list[tuple[Vertex, str, Any]] = []
        self.warnings += message.get("warnings") or ()
        for entry in message.get("vertexes") or ():
            news += self._vertex(entry)
        for entry in message.get("statuses") or ():
            vertex = self._of(entry["vertex"])
            vertex.statuses[entry["id"]] = (entry.get("current") or 0, entry.get("total") or 0)
            news.append((vertex, "status", entry["id"]))
        for entry in message.get("logs") or ():
            vertex = self._of(entry["vertex"])
            text = vertex.partial + a2b_base64(entry["data"]).decode("utf-8", "replace")
            *lines, vertex.partial = text.split("\n")
            at = moment(entry.get("timestamp", "")) - vertex.started if vertex.started else 0.0
            for line in lines:
                vertex.lines.append(line.rstrip("\r"))
                news.append((vertex, "line", (at, vertex.lines[-1])))
        return news

    def cancel(self) -> "list[Vertex]":
        """The caller has had enough: what runs is canceled, and given back."""
        running = [vertex for vertex in self.vertexes.values() if vertex.started and not vertex.completed]
        for vertex in running:
            vertex.completed, vertex.canceled = time.time(), True
        return running

    def _of(self, digest: str) -> Vertex:
        found = self.vertexes.get(digest)
        if found is None:
            found = self.vertexes[digest] = Vertex(digest, len(self.vertexes) + 1)
        return found

    def _vertex(self, entry: "dict[str, Any]") -> "list[tuple[Vertex, str, Any]]":
        vertex = self._of(entry["digest"])
        vertex.name = entry.get("name") or vertex.name
        news: list[tuple[Vertex, str, Any]] = []
        if entry.get("started") and not vertex.started:
            vertex.started = moment(entry["started"])
            news.append((vertex, "started", None))
        if entry.get("completed") and not vertex.completed:
            vertex.completed = moment(entry["completed"])
            if vertex.partial:
                line, vertex.partial = vertex.partial.rstrip("\r"), ""
                vertex.lines.append(line)
                news.append((vertex, "line", (vertex.seconds(0.0), line)))
            vertex.cached = bool(entry.get("cached"))
            vertex.error = entry.get("error") or ""
            kind = "error" if vertex.error else "cached" if vertex.cached else "done"
            news.append((vertex, kind, vertex.error))
        return news


class Plain:
    """Lines, as BuildKit writes them into a file.

    Args:
        fd: where to.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.build = Build()
        self._last = 0

    def take(self, message: "dict[str, Any]") -> None:
        """Show a message."""
        out = []
        for vertex, what, value in self.build.take(message):
            head = f"#{vertex.number}"
            if vertex.number != self._last:
                out.append(
                    f"{head} {vertex.name}" if what == "started" or not self._last else f"\n{head} {vertex.name}"
                )
                if what == "started" and self._last:
                    out[-1] = "\n" + out[-1]
                self._last = vertex.number
            if what == "line":
                out.append(f"{head} {value[0]:.3f} {value[1]}")
            elif what == "cached":
                out.append(f"{head} CACHED")
            elif what == "done":
                out.append(f"{head} DONE {vertex.seconds(0.0):.1f}s")
            elif what == "error":
                out.append(f"{head} ERROR: {value}")
        if out:
            write_all(self._fd, ("\n".join(out) + "\n").encode("utf-8", "surrogateescape"))

    def cancel(self) -> None:
        """Nothing more comes, since the caller has had enough."""
        for vertex in self.build.cancel():
            head = f"\n#{vertex.number} {vertex.name}\n" if vertex.number != self._last else ""
            self._last = vertex.number
            write_all(self._fd, f"{head}#{vertex.number} CANCELED\n".encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Nothing more comes."""


class Terminal:
    """A list of steps, drawn anew in place.

    Args:
        fd: the terminal.
        colours: whether steps that are done have one.
    """

    def __init__(self, fd: int, *, colours: bool = True) -> None:
        self._fd = fd
        self._colours = colours
        self.build = Build()
        self._begun = time.time()
        self._drawn = 0
        self._lock = allocate_lock()
        self._ended = False
        start_new_thread(self._keep_drawing, ())

    def take(self, message: "dict[str, Any]") -> None:
        """Take a message. It is shown with the next drawing: those are not more than an eye can follow."""
        with self._lock:
            self.build.take(message)

    def _keep_drawing(self) -> None:
        """Draw what has changed, the clocks too."""
        while True:
            with self._lock:
                if self._ended:
                    return
                if self.build.vertexes:
                    self._draw(time.time(), last=False)
            time.sleep(_EVERY)

    def cancel(self) -> None:
        """Draw the end, with what was still running. The cursor is on the line below, behind `^C` and a line feed."""
        with self._lock:
            self.build.cancel()
            self._drawn += 1
            self._end()

    def close(self) -> None:
        """Draw the end, once."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            if self.build.vertexes:
                self._draw(time.time(), last=True)

    def _draw(self, now: float, *, last: bool) -> None:
        try:
            size = os.get_terminal_size(self._fd)
            width, height = size.columns or 80, size.lines or 24
        except OSError:
            width, height = 80, 24
        every = [vertex for vertex in self.build.vertexes.values() if vertex.started]
        done = sum(bool(vertex.completed) and not vertex.canceled for vertex in every)
        state = " FINISHED" if last and done == len(every) else ""
        lines = [f"[+] Building {now - self._begun:.1f}s ({done}/{len(self.build.vertexes)}){state}"]
        for vertex in every:
            lines += self._lines(vertex, now, width)
        if not last and len(lines) > height - 1:
            lines = [lines[0], *lines[-(height - 2) :]]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        text = up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[0J"
        self._drawn = len(lines)
        write_all(self._fd, text.encode("utf-8", "surrogateescape"))

    def _lines(self, vertex: Vertex, now: float, width: int) -> "list[str]":
        mark = "ERROR " if vertex.error else "CANCELED " if vertex.canceled else "CACHED " if vertex.cached else ""
        clock = f"{vertex.seconds(now):.1f}s"
        name = f" => {mark}{vertex.name}"
        room = width - len(clock) - 2
        first = name[:room].ljust(room) + " " + clock
        if vertex.completed:
            if not self._colours:
                return [first]
            colour = "\x1b[31m" if vertex.error else "\x1b[33m" if vertex.canceled else "\x1b[34m"
            return [f"{colour}{first}\x1b[0m"]
        found = [first]
        for id_, (current, total) in list(vertex.statuses.items())[-_TAIL:]:
            found.append(f" => => {id_} {current}/{total}"[: width - 1])
        # of a line that was drawn anew in place, its last state
        last = [line.rpartition("\r")[2] for line in vertex.lines[-_TAIL:]]
        found += [f" => => # {line}"[: width - 1] for line in last]
        return found


class Raw:
    """The messages themselves, a line each."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.build = Build()

    def take(self, message: "dict[str, Any]") -> None:
        """Write a message."""
        from wherry.client.quickjson import dumps

        self.build.take(message)
        write_all(self._fd, dumps(message).encode("utf-8", "surrogateescape") + b"\n")

    def cancel(self) -> None:
        """Nothing more comes."""

    def close(self) -> None:
        """Nothing more comes."""


class Quiet:
    """Nothing, but what failed is remembered."""

    def __init__(self) -> None:
        self.build = Build()

    def take(self, message: "dict[str, Any]") -> None:
        """Take a message."""
        self.build.take(message)

    def cancel(self) -> None:
        """Nothing more comes."""

    def close(self) -> None:
        """Nothing more comes."""


def warned(build: Build) -> str:
    """What lint found, as it is told at the end of a build; "" where it found nothing."""
    found = build.warnings
    if not found:
        return ""
    lines = "".join(f" - {entry.get('short', '')}\n" for entry in found)
    return f"\n {len(found)} warning{'s' if len(found) > 1 else ''} found:\n{lines}"


def view(kind: str, quiet: bool) -> "Plain | Terminal | Raw | Quiet":
    """The view that `--progress` asks for; on stderr, as BuildKit's.

    `auto` draws only where the terminal can (`TERM` is not `dumb`); `NO_COLOR` leaves colours out (no-color.org).
    """
    if quiet or kind == "quiet":
        return Quiet()
    if kind == "rawjson":
        return Raw(2)
    if kind == "tty" or (kind == "auto" and os.isatty(2) and os.environ.get("TERM") != "dumb"):
        return Terminal(2, colours=not os.environ.get("NO_COLOR"))
    return Plain(2)


def failed(build: Build, digest: str) -> str:
    """The end of a failed step's output, as BuildKit repeats it below everything else."""
    vertex = build.vertexes.get(digest)
    if vertex is None:
        return ""
    text = "".join(f"{line}\n" for line in vertex.lines[-20:])
    return f"------\n > {vertex.name}:\n{text}------\n"
