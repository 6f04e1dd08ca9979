"""Writing to the caller's streams, and columns.

SIGPIPE has its default action in this process, so a reader that went away ends it quietly, as it ends `docker`.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def write_all(fd: int, data: "bytes | memoryview") -> None:
    """Write everything, whatever the descriptor takes at a time."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # someone made the terminal non-blocking
            import select

            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def out(text: str) -> None:
    """Print to stdout, as it is."""
    write_all(1, text.encode("utf-8", "surrogateescape"))


def line(text: str) -> None:
    """Print a line to stdout."""
    out(text + "\n")


def err(text: str) -> None:
    """Print a line to stderr."""
    write_all(2, (text + "\n").encode("utf-8", "surrogateescape"))


def is_terminal(fd: int) -> bool:
    """Whether the descriptor is a terminal."""
    return os.isatty(fd)


def columns(rows: "Iterable[Sequence[str]]", *, minimum: int = 10, gap: int = 3) -> str:
    """Lay out rows as Docker's tab writer does: a cell and its gap are `minimum` wide at least, the last cell free.

    A column is as wide as its widest cell within a run of rows that have it, as in Go's `text/tabwriter`.
    """
    table = [list(row) for row in rows]
    _align(table, 0, len(table), 0, minimum, gap)
    return "".join("".join(row) + "\n" for row in table)


def _align(table: "list[list[str]]", start: int, end: int, column: int, minimum: int, gap: int) -> None:
    row = start
    while row < end:
        if column >= len(table[row]) - 1:
            row += 1
            continue
        first = row
        total = minimum
        while row < end and column < len(table[row]) - 1:
            total = max(total, len(table[row][column]) + gap)
            row += 1
        for index in range(first, row):
            table[index][column] = table[index][column].ljust(total)
        _align(table, first, row, column + 1, minimum, gap)
