"""The files of one json-file log, read as one: rotated ones, compressed or not, then the current one.

<path>.2.gz  <path>.1 (or .1.gz)  <path>          oldest first
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 18
_MAX_FILES = 1000


def open_log(path: str) -> "list[tuple[int, bool]]":
    """Open all files, oldest first: descriptors, each with whether it is compressed. The last one is the current file.

    A rotation in the middle of this is noticed, and everything opened anew.
    """
    while True:
        found: list[tuple[int, bool]] = []
        current = _open(path)
        before = os.fstat(current).st_ino if current >= 0 else None
        for number in range(1, _MAX_FILES):
            fd, compressed = _open(f"{path}.{number}"), False
            if fd < 0:
                fd, compressed = _open(f"{path}.{number}.gz"), True
            if fd < 0:
                break
            found.append((fd, compressed))
        found.reverse()
        if current >= 0:
            found.append((current, False))
        try:
            after = os.stat(path).st_ino
        except FileNotFoundError:
            after = None
        if before == after:
            return found
        for fd, _ in found:
            os.close(fd)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1


def inflated(fd: int) -> int:
    """The content of a gzip file as a file without a name; `fd` is closed. A damaged end is left out."""
    import zlib

    plain = os.memfd_create("wherry-log", os.MFD_CLOEXEC)
    inflate = zlib.decompressobj(31)
    try:
        while data := os.read(fd, CHUNK):
            view = memoryview(inflate.decompress(data))
            while view:
                view = view[os.write(plain, view) :]
    except zlib.error:
        os.lseek(plain, 0, os.SEEK_SET)
    finally:
        os.close(fd)
    os.lseek(plain, 0, os.SEEK_SET)
    return plain


def seek_tail(fd: int, lines: int) -> int:
    """Move to the last `lines` lines of a file; returns how many of them it has. Reads backwards from the end."""
    end = os.lseek(fd, 0, os.SEEK_END)
    position, count = end, 0
    while position > 0:
        size = min(CHUNK // 4, position)
        data = os.pread(fd, size, position - size)
        if position == end and data.endswith(b"\n"):
            count -= 1  # the newline at the very end begins no line
        here = data.count(b"\n")
        if count + here >= lines:
            # the newline before the wanted lines is in this block
            at = size
            for _ in range(lines - count):
                at = data.rfind(b"\n", 0, at)
            os.lseek(fd, position - size + at + 1, os.SEEK_SET)
            return lines
        count += here
        position -= size
    os.lseek(fd, 0, os.SEEK_SET)
    return count + 1 if end else 0


class Lines:
    """Whole lines of one file, from where it stands; what is not a whole line yet is kept back.

    Args:
        fd: owned by the caller.
    """

    __slots__ = ("_rest", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def __iter__(self) -> "Iterator[bytes]":
        """Blocks of whole lines until the end of the file, as far as it is now."""
        while data := os.read(self.fd, CHUNK):
            data = self._rest + data
            end = data.rfind(b"\n") + 1
            self._rest = data[end:]
            if end:
                yield data[:end]
