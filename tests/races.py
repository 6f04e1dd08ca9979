"""Races that prove that they were run: each outcome that the attacker works for is counted.

A race that only asserts "nothing bad happened" also passes if the racer died at once, or if the victim always came
first. `race` repeats an attempt until every outcome was met.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# one system call, so that there is never a moment without the name: a victim that makes a directory in such a moment
# ends the race (with `mv` back and forth that happened at the first attempt)
_SWAPPER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
gaps = sys.argv[1] == "gaps"
here, there = (word.encode("utf-8", "surrogateescape") for word in sys.argv[2:])
while True:
    if libc.renameat2(-100, here, -100, there, 2):  # AT_FDCWD, RENAME_EXCHANGE
        if gaps and ctypes.get_errno() == 2:  # ENOENT
            continue
        sys.exit(f"renameat2: errno {ctypes.get_errno()}")
"""


@contextmanager
def swapping(here: Path | str, there: Path | str, *, gaps: bool = False) -> Iterator[None]:
    """Exchange two names, over and over, in a process of its own until the end of the block.

    Args:
        here: a name.
        there: another one on the same file system.
        gaps: wait while one of them is missing, since the victim makes it.

    Raises:
        AssertionError: the attacker did not live as long as the block.
    """
    racer = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SWAPPER, "gaps" if gaps else "", str(here), str(there)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
        if racer.poll() is not None:
            raise AssertionError(f"the attacker died: {racer.communicate()[1]}")
    finally:
        racer.kill()
        racer.communicate()


def race(
    attempt: Callable[[], str | Iterable[str]], outcomes: Iterable[str], *, rounds: int, seconds: float = 90.0
) -> Counter[str]:
    """Attempt at least `rounds` times, and until each of `outcomes` was met.

    Args:
        attempt: runs the victim once, asserts that nothing of the host was reached, and returns what it met: one
            outcome, or several (a run that met both counts for both; none of a run that says nothing).
        outcomes: the names that must have been met at least once; others are counted too.
        rounds: the least number of attempts.
        seconds: after these the race counts as not run.

    Returns:
        How often each outcome was met.

    Raises:
        AssertionError: an outcome was never met, so the attack was not tried.
    """
    met: Counter[str] = Counter()
    wanted = set(outcomes)
    tried, deadline = 0, time.monotonic() + seconds
    while tried < rounds or not wanted <= set(met):
        found = attempt()
        met.update([found] if isinstance(found, str) else found)
        tried += 1
        if time.monotonic() > deadline:
            break
    assert wanted <= set(met), (
        f"the race was not run: {tried} attempts met {dict(met)}, not {sorted(wanted - set(met))}"
    )
    return met
