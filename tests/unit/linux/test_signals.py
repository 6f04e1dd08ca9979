"""Every disposition is reset, also of the two signals that the C library keeps to itself."""

import subprocess
import sys

IGNORES = """
import ctypes, os, struct, sys
number = {"x86_64": 13}.get(os.uname().machine, 134)
for ignored in (10, 13, 32, 33, 40):
    ctypes.CDLL(None).syscall(number, ignored, struct.pack("QQQQ", 1, 0, 0, 0), None, 8)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
RESETS = """
from wherry.linux import signals
signals.reset()
print([line.split()[1] for line in open("/proc/self/status") if line.startswith(("SigIgn", "SigBlk"))])
"""


def test_what_somebody_had_ignored_is_not_passed_on() -> None:
    """Whoever starts the engine may ignore any signal; exec would keep that for the container's program."""
    ran = subprocess.run([sys.executable, "-c", IGNORES, RESETS], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(["0" * 16] * 2)
