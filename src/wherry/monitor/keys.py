"""Detach keys: the sequence that ends a client's session and leaves the container running.

The grammar is Docker's `--detach-keys`: a comma-separated list of single characters, `ctrl-<letter>`, `ctrl-@`,
`ctrl-[`, `ctrl-\\`, `ctrl-]`, `ctrl-^`, `ctrl-_` and `DEL`.
"""

from wherry.errors import InvalidArgument

DEFAULT = "ctrl-p,ctrl-q"


def parse(text: str) -> bytes:
    """The bytes that a key list stands for; an empty text means the default.

    Raises:
        InvalidArgument: an unknown key name.
    """
    codes = bytearray()
    for key in (text or DEFAULT).split(","):
        lower = key.lower()
        if len(key) == 1 and ord(key) < 128:
            codes.append(ord(key))
        elif key == "DEL":
            codes.append(127)
        elif lower.startswith("ctrl-") and len(lower) == 6 and (lower[5] in "@[\\]^_" or "a" <= lower[5] <= "z"):
            codes.append(ord(lower[5].upper()) & 0x1F)
        else:
            raise InvalidArgument(f"Unknown character: '{key}'")
    return bytes(codes)


class DetachKeys:
    """Finds the sequence in a byte stream. What only looked like its beginning is passed on once it breaks.

    Args:
        sequence: from `parse`.
    """

    __slots__ = ("_held", "_sequence")

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = b""

    def feed(self, data: bytes) -> "tuple[bytes, bool]":
        """What to pass on, and whether the sequence is complete (what follows it is dropped)."""
        sequence = self._sequence
        data = self._held + data
        found = data.find(sequence)
        if found >= 0:
            self._held = b""
            return data[:found], True
        # the longest end of the data that may be the beginning of the sequence is held back
        for length in range(min(len(sequence) - 1, len(data)), 0, -1):
            if data.endswith(sequence[:length]):
                self._held = data[-length:]
                return data[:-length], False
        self._held = b""
        return data, False
