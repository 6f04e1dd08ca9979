"""One row of the comparison table."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """One command, or one raw request, that both engines are given.

    Attributes:
        line: a line of bash; `$DIR` is the engine's scratch directory, which holds `busybox.tar`.
        request: instead of `line`: (method, path, body, headers); `/v/` at the path's start is the common version.
        setup: bash that is run before and must succeed.
        normalise: (pattern, replacement) for what differs between any two runs, before the general ones.
        shape: compare the keys and types of the JSON on stdout (or of the answer), not its values.
        skip: paths (as `compare.shape` writes them) that a shape leaves out.
        ignore: of `code`, `stdout`, `stderr`, what is not compared.
        deviation: why this engine is known to do otherwise (`deviations.py` sets it); a row that then agrees is an
            error of the table.
        since: the dockerd version from which on it behaves as here; older ones are not asked.
        files: needs a dockerd that sees this process's files (bind mounts).
        reads: leaves nothing behind, so nothing is tidied.
        controllers: of cgroups, by their v2 names, without which its setup is refused.
    """

    line: str
    request: tuple[str, str, str | bytes | None, dict[str, str]] | None = None
    setup: str = ""
    normalise: tuple[tuple[str, str], ...] = ()
    shape: bool = False
    skip: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    deviation: str = ""
    since: tuple[int, ...] = ()
    files: bool = False
    reads: bool = False
    controllers: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What was asked, in one line."""
        if self.request is not None:
            return " ".join(str(part) for part in self.request[:3] if part is not None)
        return f"{self.setup} » {self.line}" if self.setup else self.line


# of `/info`, what this host and its cgroups decide: it is no difference that can be pinned
HOST = ("[].Warnings", "[].KernelMemory", "[].KernelMemoryTCP", "[].Background.Tasks")
JSON = {"Content-Type": "application/json"}


def look(line: str, **rest: Any) -> Row:
    """A row that changes nothing: nothing is tidied after it."""
    return Row(line, reads=True, **rest)


def call(
    method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None, **rest: Any
) -> Row:
    """A raw request."""
    return Row("", (method, path, body, headers if headers is not None else (JSON if body else {})), **rest)
