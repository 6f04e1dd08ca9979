"""What a process does at this moment: the stacks of its threads and of its event loop's tasks, as text.

A stack has files, lines and names of functions. It has no values: those may be secrets.
"""

import asyncio
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_DEPTH = 60


def stacks(loop: asyncio.AbstractEventLoop | None = None) -> str:
    """Describe every thread of this process, and every task of `loop`, each from the outermost call inwards."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame, _DEPTH))}")
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name) if loop is not None else ():
        lines = "".join(f"  {line}\n" for line in waits(task.get_coro()))
        parts.append(f"task {task.get_name()}:\n{lines}")
    return "\n".join(parts)


def write_stacks(directory: str, loop: asyncio.AbstractEventLoop | None = None) -> str:
    """Write `stacks` into a new file that only its owner reads; returns its path.

    Raises:
        OSError: it cannot be written.
    """
    path = f"{directory}/stacks-{time.strftime('%Y-%m-%dT%H%M%SZ', time.gmtime())}-{time.monotonic_ns()}.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(stacks(loop))
    return path


def waits(awaited: Any) -> list[str]:
    """The chain of awaits of a suspended coroutine: `Task.get_stack` shows only its first frame."""
    found: list[str] = []
    while awaited is not None and len(found) < _DEPTH:
        frame: FrameType | None = None
        following = None
        for prefix, link in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if hasattr(awaited, f"{prefix}_frame"):
                frame, following = getattr(awaited, f"{prefix}_frame"), getattr(awaited, link)
        if frame is None:
            found.append(f"waits for {type(awaited).__name__}")
            break
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        awaited = following
    return found
