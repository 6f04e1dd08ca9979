"""What a confined worker has given up, seen from inside it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from wherry.snapshots.confine import _KEPT, _READS

pytestmark = pytest.mark.root

_LOOK = """
import json, os, resource, socket
from wherry.snapshots.confine import confine, confine_reader
before = os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")
{call}
with open("/proc/self/status") as lines:
    status = dict(line.rstrip().split(":\\t") for line in lines if line.startswith(("Cap", "NoNewPrivs")))
print(json.dumps({{
    "limits": [resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("CORE", "AS", "FSIZE")],
    "links": [name for _, name in socket.if_nameindex()],
    "umask": os.umask(0),
    "powers": {{name: int(value, 16) for name, value in status.items()}},
    "new": [old != os.readlink("/proc/self/ns/" + kind) for kind, old in zip(("net", "mnt"), before)],
}}))
"""


def seen(call: str) -> dict[str, Any]:
    """What a process finds of itself after a call."""
    command = [sys.executable, "-c", _LOOK.format(call=call)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_worker_that_writes() -> None:
    """No core file, two gigabytes of memory, files as large as was said; no network, and few powers."""
    assert seen("pass")["limits"][1:] != [[2 << 30] * 2, [12345] * 2]
    found = seen("confine(None, 12345)")
    assert found["limits"] == [[0, 0], [2 << 30] * 2, [12345] * 2]
    assert found["links"] == ["lo"] and all(found["new"])
    assert found["umask"] == 0o077
    powers = found["powers"]
    assert powers["CapEff"] == powers["CapPrm"] == _KEPT
    assert powers["CapAmb"] == 0 and powers["NoNewPrivs"] == 1


def test_a_worker_that_reads() -> None:
    """It may read every file, and no more."""
    found = seen("confine_reader()")
    assert found["limits"][:2] == [[0, 0], [2 << 30] * 2]
    assert found["new"][0] and found["links"] == ["lo"]
    powers = found["powers"]
    assert powers["CapEff"] == powers["CapPrm"] == _READS
    assert powers["CapAmb"] == 0 and powers["NoNewPrivs"] == 1
