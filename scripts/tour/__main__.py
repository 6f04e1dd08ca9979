"""`make run`: the product at work on real input, from nothing.

Prints each command before its output, and leaves nothing running.
"""

import os
import sys
import time

from chapters import CHAPTERS
from stage import STATE, Stage


def main() -> int:
    """Show all chapters; returns the exit code."""
    if os.geteuid() != 0:
        print("wherryd needs to be started with root privileges: make run as root", file=sys.stderr)
        return 1
    began = time.monotonic()
    stage = Stage()
    try:
        stage.start_engine()
        stage.clear()
        for chapter in CHAPTERS:
            chapter(stage)
    finally:
        stage.close()
    took = time.monotonic() - began
    print(f"\nAll of this took {took:.0f} seconds. Nothing is left running; images are kept in {STATE}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
