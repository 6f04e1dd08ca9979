"""One zstd frame at a time (RFC 8878), fed block by block.

The library's own objects either return all that a piece of input inflates to, which may be gigabytes, or do not tell a
truncated stream from a finished one. A frame is easily walked: a header, then blocks that say their size and inflate to
at most 128 KiB each. So we cut at the blocks, hand whole ones over, and know both the bound and the end.
"""

import zstandard

from wherry.errors import HostileInput, StoreCorrupt

_BLOCK_MAX = 128 * 1024
_MAGIC = b"\x28\xb5\x2f\xfd"
_RAW, _RLE, _COMPRESSED = 0, 1, 2


class Frame:
    """Inflates one frame, with the interface of the standard library's decompressors; a skippable frame gives nothing.

    Args:
        window: most bytes of history that the frame may ask for.

    Raises (from `decompress`):
        HostileInput: a larger window is asked for.
        StoreCorrupt: the frame breaks the format.
        zstandard.ZstdError: a block does not inflate, or the checksum is wrong.
    """

    __slots__ = ("_buffer", "_checksum", "_skip", "_started", "_window", "_zstd", "eof", "needs_input")

    def __init__(self, window: int) -> None:
        self._window = window
        self._zstd = zstandard.ZstdDecompressor(max_window_size=window).decompressobj()
        self._buffer = b""
        self._started = False
        self._skip = 0
        self._checksum = 0
        self.eof = False
        self.needs_input = True

    @property
    def unused_data(self) -> bytes:
        """What came behind the end of the frame."""
        return self._buffer if self.eof else b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Take more input, return about `max_length` bytes at most; `eof` and `needs_input` tell how to go on."""
        self._buffer += data
        self.needs_input = False
        if not self._started:
            start = self._header()
            if start < 0:
                self.needs_input = True
                return b""
            if self._skip:
                return self._skipped()
            self._started = True
        elif self._skip:
            return self._skipped()
        else:
            start = 0
        end = self._blocks(start, max_length)
        if end == 0:
            return b""
        out = self._zstd.decompress(self._buffer[:end])
        self._buffer = self._buffer[end:]
        return out

    def _skipped(self) -> bytes:
        self._started = True
        gone = min(self._skip, len(self._buffer))
        self._skip -= gone
        self._buffer = self._buffer[gone:]
        self.eof = self._skip == 0
        self.needs_input = not self.eof
        return b""

    def _header(self) -> int:
        """Read the frame header; return its length, or -1 where more is needed. A skippable frame sets `_skip`."""
        head = self._buffer
        if len(head) < 8:
            return -1
        if not head.startswith(_MAGIC):
            self._skip = 8 + int.from_bytes(head[4:8], "little")
            return 0
        descriptor = head[4]
        single = descriptor & 0x20
        content = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
        at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
        if len(head) < at + content:
            return -1
        if single:
            window = int.from_bytes(head[at : at + content], "little") + (256 if content == 2 else 0)
        else:
            window = 1 << (10 + (head[5] >> 3))
            window += (window >> 3) * (head[5] & 7)
        if window > self._window:
            raise HostileInput(f"zstd frame asks for a window of {window} bytes", limit=self._window)
        self._checksum = 4 if descriptor & 4 else 0
        return at + content

    def _blocks(self, start: int, max_length: int) -> int:
        """Return where the whole blocks end that inflate to about `max_length`; 0 where there is none. Sets `eof`."""
        buffer, at, out = self._buffer, start, 0
        while max_length < 0 or out < max_length:
            if len(buffer) < at + 3:
                break
            head = int.from_bytes(buffer[at : at + 3], "little")
            kind, size = head >> 1 & 3, head >> 3
            if kind > _COMPRESSED or size > _BLOCK_MAX:
                raise StoreCorrupt("zstd data is damaged: a block of an unknown kind or size")
            end = at + 3 + (1 if kind == _RLE else size)
            if head & 1:
                end += self._checksum
            if len(buffer) < end:
                break
            at = end
            out += size if kind != _COMPRESSED else _BLOCK_MAX
            if head & 1:
                self.eof = True
                return at
        else:
            return at
        self.needs_input = True
        # A header alone is not handed over: its call would look like one that found a block.
        if at == start:
            if start:
                self._started = False
            return 0
        return at
