"""What a chaos run did and found, in order of time."""

import sys
import threading
import time
from pathlib import Path


class Journal:
    """The log of a run, and its findings. All methods may be called from any thread.

    Args:
        path: the file that gets every line.
        loud: also write every line to stdout.
    """

    def __init__(self, path: Path, *, loud: bool) -> None:
        self.findings: list[str] = []
        self.commands = 0
        self.failures = 0
        self._began = time.monotonic()
        self._file = open(path, "w", encoding="utf-8")
        self._loud = loud
        self._lock = threading.Lock()

    def say(self, who: str, text: str) -> None:
        """Write one line."""
        line = f"{time.monotonic() - self._began:9.3f} {who:<8} {text}"
        with self._lock:
            print(line, file=self._file, flush=True)
            if self._loud:
                print(line, file=sys.stdout, flush=True)

    def command(self, *, failed: bool) -> None:
        """Count one command."""
        with self._lock:
            self.commands += 1
            self.failures += failed

    def find(self, who: str, text: str) -> None:
        """Record that something is not as it must be."""
        self.say(who, f"FINDING {text}")
        with self._lock:
            self.findings.append(f"{time.monotonic() - self._began:.3f} {who}: {text}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
