"""What a worker says while it works, and at its end: lines of JSON on its `result` descriptor."""

import os
from json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def begin(fd: int) -> None:
    """Write an empty line: from here on the work is not tried again, whatever becomes of this process."""
    try:
        os.write(fd, b"\n")
    except OSError:
        return


def report(fd: int, value: "dict[str, Any]") -> None:
    """Write one line; nothing happens where nobody waits for it (any more)."""
    if fd < 0:
        return
    data = memoryview(dumps(value).encode() + b"\n")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return
