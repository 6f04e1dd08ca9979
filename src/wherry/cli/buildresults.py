"""What a build answers: its messages, and results that are written here."""

import os

from wherry.cli.failure import Failure, file_failure
from wherry.cli.output import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def messages(response: "Any", sinks: "list[Any]") -> "Any":
    """The messages of an answer; the bytes behind `chunk` lines go to their sinks."""
    from wherry.client.quickjson import loads

    rest = b""
    while True:
        end = rest.find(b"\n")
        if end < 0:
            piece = response.read_some()
            if not piece:
                return
            rest += piece
            continue
        text, rest = rest[:end], rest[end + 1 :]
        if not text.strip():
            continue
        message = loads(text)
        if "chunk" not in message:
            yield message
            continue
        left, sink = int(message["chunk"]), sinks[int(message["output"])]
        while left:
            if not rest:
                rest = response.read_some()
                if not rest:
                    raise Failure("the engine broke off")
            data, rest = rest[:left], rest[left:]
            left -= len(data)
            sink.write(data)


class FileSink:
    """An output that is one file; it has its name when it is whole."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = 1
        if path != "-":
            self._temporary = f"{path}.tmp-{os.getpid()}"
            try:
                self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise file_failure("open", path, error) from None

    def write(self, data: bytes) -> None:
        """Take bytes."""
        write_all(self._fd, data)

    def finish(self, *, ok: bool) -> None:
        """All of it is there, or it failed."""
        if self._path == "-":
            return
        os.close(self._fd)
        if ok:
            os.replace(self._temporary, self._path)
        else:
            os.unlink(self._temporary)


class DirectorySink:
    """An output whose files go into a directory."""

    def __init__(self, path: str) -> None:
        import tempfile

        self._path = path
        self._spool = tempfile.TemporaryFile()

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self._spool.write(data)

    def finish(self, *, ok: bool) -> None:
        """Write the files, if all are there."""
        try:
            if ok:
                from wherry.cli.unpacking import unpack

                self._spool.flush()
                os.lseek(self._spool.fileno(), 0, os.SEEK_SET)
                os.makedirs(self._path, exist_ok=True)
                unpack(self._spool.fileno(), self._path)
        finally:
            self._spool.close()


def sink_of(output: "dict[str, Any]") -> "FileSink | DirectorySink | None":
    """Where an output's bytes go; None for what stays with the engine."""
    if output["type"] == "local":
        return DirectorySink(output["attrs"]["dest"])
    if output["type"] in ("tar", "oci", "docker"):
        return FileSink(output["attrs"].get("dest") or "-")
    return None
