"""The json-file log: one record a line, as Docker's driver of that name writes it, and capped.

    {"log":"text\\n","stream":"stdout","attrs":{…},"time":"2026-01-02T03:04:05.678901234Z"}

A record is one line of output; a line over 16 KiB makes several, all but the last without a newline. Bytes that are not
UTF-8 become U+FFFD. All records of one read carry one time, which lets a batch be encoded as a whole: it is escaped in
one call, and each escaped newline replaced by the end of a record and the beginning of the next.

    <path>  <path>.1.gz  <path>.2.gz …     newest first; a file just rotated is `.1` until it is compressed
"""

import os
import time
from json import dumps
from json.encoder import encode_basestring

from wherry.values import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_LINE = 16 * 1024

# what is being compressed has been rotated away meanwhile
_DROPPED = -1
_HEAD = '{"log":"'
_HEAD_BYTES = _HEAD.encode()
_PLAIN = bytes(byte for byte in range(32, 127) if byte not in b'"\\') + b"\n"
_NAMES = {1: "stdout", 2: "stderr"}


def encode(lines: bytes, suffix: str) -> bytes:
    """Records for `lines`: bytes that end with a newline, each line at most 16 KiB.

    Args:
        lines: output.
        suffix: what follows the text in every record, from its closing quote to the end of the record.
    """
    if b'"' not in lines and lines.isascii() and not lines.translate(None, _PLAIN):
        # most output: nothing in it is escaped, and it need not become text
        end = b"\\n" + suffix.encode() + b"\n"
        return b"".join((_HEAD_BYTES, lines[:-1].replace(b"\n", end + _HEAD_BYTES), end))
    text = lines.decode("utf-8", "replace")
    if "\\" not in text:
        mark = "\\n"
    elif "\x7f" not in text:
        # an escaped newline could be half of an escaped backslash: mark the ends by a byte that needs no escape
        mark = "\x7f"
        text = text.replace("\n", mark)
    else:
        return "".join(
            f"{_HEAD}{encode_basestring(line)[1:-1]}\\n{suffix}\n" for line in text[:-1].split("\n")
        ).encode()
    body = encode_basestring(text)[1 : -1 - len(mark)]
    return f"{_HEAD}{body.replace(mark, f'{chr(92)}n{suffix}{chr(10)}{_HEAD}')}\\n{suffix}\n".encode()


def split_long(lines: bytes) -> "list[tuple[bytes, bool]]":
    """Cut `lines` so that no line is over 16 KiB: pieces with a flag, true where the piece has no newline at its end.

    Characters of UTF-8 are kept whole.
    """
    pieces: list[tuple[bytes, bool]] = []
    start = position = 0
    end = len(lines)
    while end - position > MAX_LINE:
        newline = lines.rfind(b"\n", position, position + MAX_LINE + 1)
        if newline >= 0:
            position = newline + 1
            continue
        if position > start:
            pieces.append((lines[start:position], False))
        cut = position + MAX_LINE
        back = 0
        while back < 3 and lines[cut - back] & 0xC0 == 0x80:
            back += 1
        if lines[cut - back] & 0xC0 != 0x80:
            cut -= back
        pieces.append((lines[position:cut], True))
        start = position = cut
    if start < end:
        pieces.append((lines[start:], False))
    return pieces


class JsonFileLog:
    """The log of one container.

    Args:
        path: the current file; its directory must exist.
        max_size: bytes after which the file is rotated; 0 for never.
        max_files: how many files there may be, the current one included.
        attrs: labels and variables to repeat in every record.
        compress: compress what a descriptor holds into a new file, in a process of its own, then call back with its
            success; None leaves rotated files as they are.
        on_error: told once about each run of failed writes.
    """

    __slots__ = (
        "_attrs",
        "_compress",
        "_compressing",
        "_failed",
        "_fd",
        "_max_files",
        "_max_size",
        "_on_error",
        "_partial",
        "_size",
        "path",
    )

    def __init__(
        self,
        path: str,
        *,
        max_size: int,
        max_files: int,
        attrs: "dict[str, Any] | None" = None,
        compress: "Callable[[int, str, Callable[[bool], None]], None] | None" = None,
        on_error: "Callable[[OSError], None]",
    ) -> None:
        self.path = path
        self._max_size = max_size
        self._max_files = max(1, max_files)
        self._attrs = f',"attrs":{dumps(attrs, separators=(",", ":"), ensure_ascii=False)}' if attrs else ""
        self._compress = compress
        self._compressing = 0  # number of the rotated file that is being compressed, 0 for none
        self._on_error = on_error
        self._failed = False
        self._partial = {1: b"", 2: b""}
        self._fd = -1
        self._size = 0
        try:
            self._open()
        except OSError as error:
            self._failed = True
            on_error(error)

    def write(self, stream: int, data: bytes) -> None:
        """Record output of stream 1 or 2. A line without its newline waits for it, up to 16 KiB. Never raises."""
        partial = self._partial[stream]
        if partial:
            data = partial + data
        end = data.rfind(b"\n") + 1
        if end < len(data):
            if len(data) - end >= MAX_LINE:
                # a long unfinished line: all whole pieces of it go out now
                pieces = split_long(data)
                rest = b"" if pieces[-1][1] else pieces.pop()[0]
                cut = rest.rfind(b"\n") + 1
                if cut:
                    pieces.append((rest[:cut], False))
                    rest = rest[cut:]
                self._partial[stream] = rest
                self._records(stream, pieces)
                return
            self._partial[stream] = data[end:]
            data = data[:end]
        else:
            self._partial[stream] = b""
        if data:
            self._records(stream, split_long(data) if len(data) > MAX_LINE else [(data, False)])

    def flush(self) -> None:
        """Record lines that never got their newline: the process is dead."""
        for stream, rest in self._partial.items():
            if rest:
                self._partial[stream] = b""
                self._records(stream, [(rest, True)])

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # ---- inner

    def _records(self, stream: int, pieces: "list[tuple[bytes, bool]]") -> None:
        suffix = f'","stream":"{_NAMES[stream]}"{self._attrs},"time":"{times.exact(time.time_ns())}"}}'
        out = b"".join(
            f"{_HEAD}{encode_basestring(piece.decode('utf-8', 'replace'))[1:-1]}{suffix}\n".encode()
            if unfinished
            else encode(piece, suffix)
            for piece, unfinished in pieces
        )
        try:
            self._append(out)
            self._failed = False
        except OSError as error:
            # a full disk: output is lost to the log, not to clients, and the container goes on
            if not self._failed:
                self._failed = True
                self._on_error(error)

    def _append(self, data: bytes) -> None:
        limit = self._max_size
        while limit and self._size + len(data) > limit:
            cut = data.rfind(b"\n", 0, max(0, limit - self._size)) + 1
            if not cut and not self._size:
                cut = data.find(b"\n") + 1  # one record over the limit: it gets a file of its own
            self._put(data[:cut])
            data = data[cut:]
            if not data:
                return
            self._rotate()
        self._put(data)

    def _put(self, data: bytes) -> None:
        if self._fd < 0:
            self._open()
        start, view = self._size, memoryview(data)
        try:
            while view:
                count = os.write(self._fd, view)
                self._size += count
                view = view[count:]
        except OSError:
            # no half records
            self._size = start
            try:
                os.ftruncate(self._fd, start)
            except OSError as error:
                self._on_error(error)
            raise

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        now = time.time_ns()
        os.utime(self._fd, ns=(now, now))  # how a reader tells which files it has still to read
        os.close(self._fd)
        self._fd = -1
        last = self._max_files - 1
        if last == 0:
            os.unlink(self.path)
            self._open()
            return
        for suffix in ("", ".gz"):
            _unlink(f"{self.path}.{last}{suffix}")
        for number in range(last - 1, 0, -1):
            for suffix in ("", ".gz"):
                try:
                    os.rename(f"{self.path}.{number}{suffix}", f"{self.path}.{number + 1}{suffix}")
                except FileNotFoundError:
                    continue
        os.rename(self.path, f"{self.path}.1")
        if self._compressing > 0:
            self._compressing = self._compressing + 1 if self._compressing < last else _DROPPED
        self._open()
        self._compress_next()

    def _compress_next(self) -> None:
        # One at a time: where output outruns the compressor, older files stay plain until their turn, or their end.
        if self._compress is None or self._compressing:
            return
        for number in range(self._max_files - 1, 0, -1):
            try:
                source = os.open(f"{self.path}.{number}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            # opened here: by the time a child looked, another file may bear the name
            try:
                self._compressing = number
                self._compress(source, f"{self.path}.compressing", self._compressed)
            finally:
                os.close(source)
            return

    def _compressed(self, success: bool) -> None:
        number, self._compressing = self._compressing, 0
        temporary = f"{self.path}.compressing"
        if number > 0 and success:
            try:
                os.rename(temporary, f"{self.path}.{number}.gz")
                os.unlink(f"{self.path}.{number}")
            except OSError as error:
                self._on_error(error)
                return
        else:
            _unlink(temporary)
            if number > 0:
                return  # it failed (a full disk): do not try again at once
        self._compress_next()


def compress_file(source: int, target: str) -> None:
    """Write what the descriptor `source` holds, gzip-compressed, to the new file `target` (for a forked child)."""
    import zlib

    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    while True:
        data = os.read(source, 1 << 18)
        view = memoryview(squeeze.compress(data) if data else squeeze.flush())
        while view:
            view = view[os.write(write, view) :]
        if not data:
            break
    times = os.fstat(source)
    os.utime(write, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.close(write)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
