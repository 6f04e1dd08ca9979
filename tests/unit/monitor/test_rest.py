"""An idle process gives back program text, and goes on."""

import zlib
from pathlib import Path

from wherry.monitor.rest import rest


def _resident_text() -> int:
    """Kilobytes of executable file mappings that are mapped in."""
    total, wanted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            wanted = fields[1] == "r-xp" and fields[-1].startswith("/")
        elif wanted and fields[0] == "Rss:":
            total += int(fields[1])
    return total


def test_text_is_given_back_and_comes_again() -> None:
    """Fewer pages of text are mapped after a rest, and whatever runs afterwards finds its own again."""
    before = _resident_text()
    rest()
    assert _resident_text() < before
    assert zlib.decompress(zlib.compress(b"x" * 100_000)) == b"x" * 100_000
    rest()
