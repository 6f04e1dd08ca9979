"""What is wrong with a Dockerfile, where, and how that is shown.

`str(error)` is the bare message (clients match on it); `facts["lines"]` are its lines, 1-based. `excerpt` prints the
source around them in BuildKit's layout.
"""

from collections.abc import Iterable

from wherry.errors import InvalidArgument

Location = tuple[int, int]
"""First and last line of an instruction, 1-based, both included."""


class DockerfileError(InvalidArgument):
    """A Dockerfile that cannot be built.

    Args:
        message: BuildKit's words.
        location: the lines it is about, or None when it is about the whole file.
    """

    def __init__(self, message: str, location: Location | None = None) -> None:
        super().__init__(message, lines=list(location) if location else None)

    @property
    def location(self) -> Location | None:
        """The lines it is about; it crosses a process boundary as `facts["lines"]`."""
        lines = self.facts.get("lines")
        return (int(lines[0]), int(lines[1])) if lines else None

    def at(self, location: Location) -> "DockerfileError":
        """The same error, located, unless it already knew its place."""
        return self if self.location else DockerfileError(self.message, location)


def excerpt(source: str, name: str, ranges: Iterable[Location]) -> str:
    """The lines of `source` that `ranges` name, marked, with what surrounds them; "" when there are none.

    Args:
        source: the whole Dockerfile.
        name: what it is called in the first line (`Dockerfile:3`).
        ranges: first and last lines, 1-based.
    """
    marked = [(first, max(first, last)) for first, last in ranges]
    if not marked:
        return ""
    lines = source.split("\n")
    start, end = min(first for first, _ in marked), max(last for _, last in marked)
    if not 1 <= start <= len(lines):
        return ""
    end = min(end, len(lines))
    head = start
    # a single line gets more company than a block; a side that is at the file's edge gives its share to the other
    room = 4 if start == end else 2
    while room > 0:
        if start > 1:
            start, room = start - 1, room - 1
        if end != len(lines):
            end, room = end + 1, room - 1
        room -= 1
    rule = "--------------------\n"
    out = [f"{name}:{head}\n", rule]
    for number in range(start, end + 1):
        mark = ">>>" if any(first <= number <= last for first, last in marked) else "   "
        out.append(f" {number:3d} | {mark} {lines[number - 1]}\n")
    return "".join([*out, rule])
