"""Progress messages of the engine: one line for each layer on a terminal, one line for each message in a file."""

import os

from wherry.cli.failure import Failure
from wherry.cli.output import write_all
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.client.connection import Response


def show_progress(
    response: "Response", fd: int = 1, *, quiet: bool = False, aux: "Callable[[Any], None] | None" = None
) -> None:
    """Show a stream of JSON messages as it arrives.

    Args:
        response: the answer whose body is the stream.
        fd: where to write.
        quiet: show nothing, but fail all the same.
        aux: called with the `aux` of a message.

    Raises:
        Failure: the stream ended with an error.
    """
    display = Display(fd)
    for message in response.documents():
        error = message.get("errorDetail") or ({"message": message["error"]} if message.get("error") else None)
        if error:
            raise Failure(str(error.get("message", "")), 1)
        if message.get("aux") is not None:
            if aux is not None:
                aux(message["aux"])
            continue
        if not quiet:
            display.show(message)


class Display:
    """Shows messages one after the other.

    Args:
        fd: where to write.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._terminal = os.isatty(fd)
        self._lines: dict[str, int] = {}
        self._below = 0
        try:
            self._width = os.get_terminal_size(fd).columns
        except OSError:
            self._width = 200

    def show(self, message: "dict[str, Any]") -> None:
        id_, progress = str(message.get("id", "")), message.get("progressDetail") or {}
        bar = self._bar(progress) if self._terminal else ""
        if not self._terminal and progress.get("current"):
            return  # a file wants the steps, not the bars
        if "stream" in message:
            self._write(str(message["stream"]))
            return
        text = f"{id_}: " if id_ else ""
        if message.get("from"):
            text += f"(from {message['from']}) "
        text += f"{message.get('status', '')}{' ' if bar else ''}{bar}"
        if not self._terminal:
            self._write(text + "\n")
            return
        if not id_ or (not progress and id_ not in self._lines and "progressDetail" not in message):
            # an ordinary line: what comes later is below it
            self._lines.clear()
            self._below = 0
            self._write(text + "\n")
            return
        if id_ not in self._lines:
            self._lines[id_] = self._below
            self._below += 1
            self._write(f"\x1b[2K{text[: self._width - 1]}\n")
            return
        up = self._below - self._lines[id_]
        self._write(f"\x1b[{up}A\x1b[2K\r{text[: self._width - 1]}\x1b[{up}B\r")

    def _bar(self, progress: "dict[str, Any]") -> str:
        current, total = progress.get("current") or 0, progress.get("total") or 0
        if current <= 0 and total <= 0:
            return ""
        if total <= 0 or current > total:
            return f"{sizes.human(current):>8}"
        filled = min(50, current * 50 // total)
        bar = "=" * filled + (">" if filled < 50 else "")
        box = f"[{bar:<51}]  " if self._width > 110 else ""
        return f"{box}{sizes.human(current)}/{sizes.human(total)}"

    def _write(self, text: str) -> None:
        write_all(self._fd, text.encode("utf-8", "surrogateescape"))
