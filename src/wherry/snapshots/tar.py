"""A strict, streaming tar reader: POSIX ustar and pax (IEEE 1003.1), old and new GNU, star, all sparse forms.

It reads headers and gives entries; it writes nothing but the data of a file, to a descriptor it is given. Names are
bytes and come as the archive has them: whoever makes files of them decides what is allowed. Where the two differ,
entries are read as Docker reads them (Go's archive/tar), so that a layer is the same tree in both. Runs in forked
workers: no codec, no import after the start.
"""

import os
import struct

from wherry.errors import HostileInput, StoreCorrupt
from wherry.snapshots.limits import Limits
from wherry.snapshots.tarfields import decimal, number, pax_records, seconds, shown, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn, Protocol

    class Pieces(Protocol):
        """What the reader reads: bytes in pieces of any length, `b""` at the end."""

        def piece(self) -> bytes: ...


FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_ZEROS = bytes(512)
_DATALESS = b"123456"
_KNOWN = frozenset((FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO))
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."


class Entry:
    """One file of an archive.

    Fields: `name` and `linkname` (bytes, as stored), `type` (FILE…FIFO), `mode` (permission bits and setuid, setgid,
    sticky), `uid`, `gid`, `size` (bytes of the file, holes included), `mtime_ns`, `major`, `minor` (devices),
    `xattrs` (name → value) or None, `sparse` (the (offset, length) pairs that hold data) or None.
    """

    __slots__ = (
        "gid",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "sparse",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = b""
        self.linkname = b""
        self.type = FILE
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.mtime_ns = 0
        self.major = 0
        self.minor = 0
        self.xattrs: dict[bytes, bytes] | None = None
        self.sparse: list[tuple[int, int]] | None = None


class TarReader:
    """Reads the entries of one archive, in order.

    Args:
        source: the archive's bytes, inflated.
        limits: ceilings on entries, names, header and file sizes.

    `entries` and `total` count the entries given so far, and the bytes of their files.

    Raises (from every method):
        HostileInput: a ceiling was passed, or a header says what no archiver says.
        StoreCorrupt: the archive is truncated, or a header's checksum is wrong.
    """

    __slots__ = (
        "_end",
        "_entry",
        "_global",
        "_headers",
        "_left",
        "_limits",
        "_pad",
        "_piece",
        "_pos",
        "_source",
        "entries",
        "total",
    )

    def __init__(self, source: "Pieces", limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._piece = b""
        self._pos = 0
        self._end = 0
        self._left = 0  # bytes of the current entry's data that are not read yet
        self._pad = 0  # zeros behind them, to a whole block
        self._entry: Entry | None = None
        self._global: dict[bytes, bytes] = {}
        self._headers = 0
        self.entries = 0
        self.total = 0

    def next(self) -> Entry | None:
        """Skip what is left of the current entry and return the next one, or None at the end of the archive."""
        pax: dict[bytes, bytes] = {}
        long_name = long_link = b""
        while True:
            if self._left:
                self._skip(self._left)
                self._left = 0
            header = self._header() if self._padded() else None
            if header is None:
                if pax or long_name or long_link:
                    raise StoreCorrupt("archive ends behind an extended header")
                return None
            self._headers += 1
            if self._headers > self._limits.max_entries:
                raise HostileInput(f"archive has more than {self._limits.max_entries} entries")
            kind = header[156:157]
            if kind in b"xgLK":
                data = self._extension(header)
                if kind == b"x":
                    pax = pax_records(data, self._limits)
                elif kind == b"g":
                    self._set_global(pax_records(data, self._limits))
                elif kind == b"L":
                    long_name = text(data)
                else:
                    long_link = text(data)
                continue
            entry = self._entry_of(header, pax)
            # GNU's long names win over pax records, as Go's reader has it.
            if long_name:
                entry.name = long_name
            if long_link:
                entry.linkname = long_link
            if kind == b"\0":
                entry.type = DIRECTORY if entry.name.endswith(b"/") else FILE
                if entry.type == DIRECTORY:
                    self._left = self._pad = entry.size = 0
            self._check(entry)
            self._entry = entry
            self.entries += 1
            return entry

    def copy_to(self, fd: int) -> None:
        """Write the current entry's data to `fd`, which is at its beginning; holes of a sparse file stay holes."""
        entry = self._entry
        assert entry is not None
        if entry.sparse is None:
            self._copy(fd, self._left)
            return
        for offset, length in entry.sparse:
            os.lseek(fd, offset, os.SEEK_SET)
            self._copy(fd, length)
        os.ftruncate(fd, entry.size)

    def pieces(self) -> "Iterator[tuple[int, bytes]]":
        """Give the current entry's data, each piece with its place in the file; a sparse file's holes are left out."""
        entry = self._entry
        assert entry is not None
        for offset, length in entry.sparse if entry.sparse is not None else [(0, self._left)]:
            at, end = offset, offset + length
            while at < end:
                if self._pos == self._end:
                    self._more()
                data = self._piece[self._pos : min(self._end, self._pos + end - at)]
                self._pos += len(data)
                self._left -= len(data)
                yield at, data
                at += len(data)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes of the current entry's data, `b""` behind its end. Not for sparse files."""
        if self._entry is not None and self._entry.sparse is not None:
            self._refuse(self._entry.name, "is a sparse file where none is expected")
        if not self._left:
            return b""
        if self._pos == self._end:
            self._more()
        end = min(self._end, self._pos + min(size, self._left))
        data = self._piece[self._pos : end]
        self._left -= len(data)
        self._pos = end
        return data

    # -- headers

    def _header(self) -> bytes | None:
        """Return the next header block, its checksum verified; None at the end of the archive."""
        block = self._block()
        if block == _ZEROS:
            following = self._block()
            if following and following != _ZEROS:
                raise StoreCorrupt("archive has an empty block between its entries")
            return None
        if not block:
            return None
        try:
            stored = number(block[148:156])
        except ValueError:
            stored = -1
        checksum = sum(block) - sum(block[148:156]) + 256
        if checksum != stored:
            # Some old archivers summed signed bytes.
            signed = checksum - 256 * sum(1 for byte in block[:148] + block[156:] if byte > 127)
            if signed != stored:
                raise StoreCorrupt("archive/tar: invalid tar header", header=self._headers + 1)
        return block

    def _extension(self, header: bytes) -> bytes:
        """Return the data of an extended header or a long name."""
        size = self._number(header[124:136], b"", "size")
        if not 0 <= size <= self._limits.max_header:
            raise HostileInput(f"archive has an extended header of {size} bytes", limit=self._limits.max_header)
        data = self._exactly(size)
        self._skip(-size % 512)
        return data

    def _set_global(self, records: dict[bytes, bytes]) -> None:
        for key, value in records.items():
            if key in (b"path", b"linkpath", b"size") or key.startswith(_SPARSE):
                raise HostileInput(f"global header sets {shown(key)} for every entry")
            if value:
                self._global[key] = value
            else:
                self._global.pop(key, None)
        if len(self._global) > 1000:
            raise HostileInput("archive has more than 1000 global records")

    def _entry_of(self, header: bytes, pax: dict[bytes, bytes]) -> Entry:
        entry = Entry()
        name, mode, uid, gid, size, mtime, _, kind, link, magic, _, _, major, minor, prefix, trailer = _HEADER.unpack(
            header
        )
        name, entry.linkname = text(name), text(link)
        if magic == b"ustar\x0000" and prefix[:1] != b"\0":
            if trailer[8:] == b"tar\0":
                prefix = prefix[:131]  # star keeps access and change time behind it
            if prefix := text(prefix):
                name = prefix + b"/" + name
        entry.name = name
        # What an extended header replaces is not read: writers put anything there when the value does not fit.
        entry.mode = self._number(mode, name, "mode") & 0o7777
        entry.uid = 0 if b"uid" in pax else self._number(uid, name, "uid")
        entry.gid = 0 if b"gid" in pax else self._number(gid, name, "gid")
        entry.size = 0 if b"size" in pax else self._number(size, name, "size")
        entry.mtime_ns = 0 if b"mtime" in pax else self._number(mtime, name, "mtime") * 1_000_000_000
        if kind in b"34":
            entry.major = self._number(major, name, "major device number")
            entry.minor = self._number(minor, name, "minor device number")
        entry.type = FILE if kind in b"7S" or kind == b"\0" else kind
        if pax or self._global:
            self._apply(entry, {**self._global, **pax} if self._global else pax)
        if kind in _DATALESS:
            entry.size = 0  # some writers store the size of a link's target, and no data
        if entry.size < 0:
            self._refuse(entry.name, f"has a size of {entry.size} bytes")
        self._left, self._pad = entry.size, -entry.size % 512
        if kind == b"S":
            self._old_gnu_sparse(entry, header)
        elif pax and entry.type == FILE and any(key.startswith(_SPARSE) for key in pax):
            self._pax_sparse(entry, pax)
        return entry

    def _apply(self, entry: Entry, records: dict[bytes, bytes]) -> None:
        for key, value in records.items():
            if key.startswith(_XATTR):
                if entry.xattrs is None:
                    entry.xattrs = {}
                entry.xattrs[key[len(_XATTR) :]] = value
            elif not value:
                continue  # an empty record takes an earlier one back
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.linkname = value
            elif key == b"mtime":
                try:
                    entry.mtime_ns = seconds(value)
                except ValueError:
                    self._refuse(entry.name, "has no valid mtime")
            elif key in (b"size", b"uid", b"gid"):
                try:
                    parsed = decimal(value)
                except ValueError:
                    self._refuse(entry.name, f"has no valid {shown(key)}")
                if key == b"size":
                    entry.size = parsed
                elif key == b"uid":
                    entry.uid = parsed
                else:
                    entry.gid = parsed

    def _check(self, entry: Entry) -> None:
        limits = self._limits
        if entry.type not in _KNOWN:
            self._refuse(entry.name, f"is of an unknown type {shown(entry.type)!r}")
        if len(entry.name) > limits.max_path:
            self._refuse(entry.name, f"has a path of {len(entry.name)} bytes")
        if len(entry.linkname) > limits.max_path:
            self._refuse(entry.name, f"has a link target of {len(entry.linkname)} bytes")
        if not 0 <= entry.uid < 0xFFFFFFFF or not 0 <= entry.gid < 0xFFFFFFFF:
            self._refuse(entry.name, f"has an owner that no system has: {entry.uid}:{entry.gid}")
        if entry.major >> 12 or entry.minor >> 20:
            self._refuse(entry.name, f"has a device number that no system has: {entry.major}:{entry.minor}")
        self.total += entry.size
        if self.total > limits.max_bytes:
            self._refuse(entry.name, f"makes the files larger than {limits.max_bytes} bytes")

    def _number(self, field: bytes, name: bytes, what: str) -> int:
        try:
            return number(field)
        except ValueError:
            self._refuse(name, f"has no valid {what}")

    def _refuse(self, name: bytes, reason: str) -> "NoReturn":
        raise HostileInput(f"archive entry {shown(name)!r} {reason}", entry=shown(name))

    # -- sparse files

    def _old_gnu_sparse(self, entry: Entry, header: bytes) -> None:
        """GNU's type S: four segments in the header, 21 in each block that follows; ends at an empty one."""
        segments: list[tuple[int, int]] = []
        block, start, count = header, 386, 4
        extended, size = header[482], self._number(header[483:495], entry.name, "size")
        while True:
            for at in range(start, start + 24 * count, 24):
                if block[at] == 0:
                    break
                segments.append(
                    (
                        self._number(block[at : at + 12], entry.name, "sparse map"),
                        self._number(block[at + 12 : at + 24], entry.name, "sparse map"),
                    )
                )
            if not extended:
                break
            block, start, count = self._exactly(512), 0, 21
            extended = block[504]
            if len(segments) * 24 > self._limits.max_header:
                self._refuse(entry.name, "has a sparse map that is too long")
        self._set_sparse(entry, segments, size, entry.size)

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        """pax 0.0 (repeated records), 0.1 (one record), 1.0 (in front of the data); see GNU tar's manual."""
        stored = entry.size
        try:
            if pax.get(_SPARSE + b"major", b"0") == b"1":
                numbers = self._leading_map()
                stored = self._left
            else:
                field = pax.get(_SPARSE + b"map", b"")
                numbers = [decimal(part) for part in field.split(b",")] if field else []
            size = decimal(pax.get(_SPARSE + b"realsize") or pax.get(_SPARSE + b"size") or b"%d" % entry.size)
        except ValueError:
            self._refuse(entry.name, "has no valid sparse map")
        if name := pax.get(_SPARSE + b"name"):
            entry.name = name
        if len(numbers) % 2:
            self._refuse(entry.name, "has no valid sparse map")
        self._set_sparse(entry, list(zip(numbers[::2], numbers[1::2], strict=True)), size, stored)

    def _leading_map(self) -> list[int]:
        """Read the map of form 1.0: decimal lines, the count of pairs first, padded to whole blocks."""
        lines: list[bytes] = []
        rest, wanted, used = b"", 1, 0
        while len(lines) < wanted:
            used += 512
            if used > min(self._left, self._limits.max_header):
                raise ValueError
            parts = (rest + self._exactly(512)).split(b"\n")
            rest = parts.pop()
            lines += parts
            if lines and wanted == 1:
                wanted = 1 + 2 * decimal(lines[0])
        self._left -= used
        return [decimal(line) for line in lines[1:wanted]]

    def _set_sparse(self, entry: Entry, segments: list[tuple[int, int]], size: int, stored: int) -> None:
        last = total = 0
        for offset, length in segments:
            if offset < last or length < 0 or offset + length > size:
                self._refuse(entry.name, "has a sparse map that overlaps or leaves the file")
            last, total = offset + length, total + length
        if total != stored or size < 0:
            self._refuse(entry.name, "has a sparse map that is not that of its data")
        entry.sparse, entry.size = segments, size

    # -- bytes

    def _more(self) -> None:
        """Take the next piece; the archive may not end here."""
        self._piece = self._source.piece()
        self._pos, self._end = 0, len(self._piece)
        if not self._end:
            name = shown(self._entry.name) if self._entry else ""
            raise StoreCorrupt("unexpected EOF", entry=name)

    def _block(self) -> bytes:
        """Return the next 512 bytes, or `b""` where the archive ends before them."""
        pos = self._pos
        if pos + 512 <= self._end:
            self._pos = pos + 512
            return self._piece[pos : pos + 512]
        if pos == self._end:
            self._piece = self._source.piece()
            self._pos, self._end = 0, len(self._piece)
            if not self._end:
                return b""
        return self._exactly(512)

    def _exactly(self, size: int) -> bytes:
        pos = self._pos
        if pos + size <= self._end:
            self._pos = pos + size
            return self._piece[pos : pos + size]
        parts = []
        while size:
            if self._pos == self._end:
                self._more()
            end = min(self._end, self._pos + size)
            parts.append(self._piece[self._pos : end])
            size -= end - self._pos
            self._pos = end
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            if self._pos == self._end:
                self._more()
            step = min(self._end - self._pos, size)
            self._pos += step
            size -= step

    def _padded(self) -> bool:
        """Skip the zeros behind an entry's data; False where the archive ends before or in them.

        The docker command's archives end so when it puts a Dockerfile in (`build -f`, from elsewhere or from stdin).
        """
        while self._pad:
            if self._pos == self._end:
                self._piece = self._source.piece()
                self._pos, self._end = 0, len(self._piece)
                if not self._end:
                    self._pad = 0
                    return False
            step = min(self._end - self._pos, self._pad)
            self._pos += step
            self._pad -= step
        return True

    def _copy(self, fd: int, size: int) -> None:
        self._left -= size
        while size:
            if self._pos == self._end:
                self._more()
            pos, end = self._pos, min(self._end, self._pos + size)
            written = os.write(fd, self._piece[pos:end])
            self._pos += written
            size -= written
