"""Namespaces that nobody lives in: who makes them may be killed at any step."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

_KILLED = """
import os
from wherry.runtime import idmaps

def die(kind, pid):
    print(pid, flush=True)
    os.kill(os.getpid(), 9)

idmaps.open_namespace = die
idmaps.make_user_namespace("0 0 1", "0 0 1")
"""


def test_no_process_stays_behind_a_killed_maker() -> None:
    """The process that is the namespace's first ends with the one that made it."""
    done = subprocess.run([sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    try:
        while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < deadline, "it is still there"
            time.sleep(0.02)
    except (FileNotFoundError, ProcessLookupError):
        return
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise
