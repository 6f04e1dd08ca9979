"""Whose changes of the ruleset are ours, also in a PID namespace; and what looking at foreign rules prints."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.network import sandbox

pytestmark = pytest.mark.root

OURS_AND_THEIRS = """
import subprocess, threading
from wherry.linux.nftables import Nftables, RulesetWatch, name_thread

def change(text):
    def run():
        name_thread()
        Nftables().run(text, "change")
    worker = threading.Thread(target=run)
    worker.start()
    worker.join()

watch = RulesetWatch()
change("add table ip mine")
print("ours", watch.drain())
subprocess.run(["nft", "add table ip theirs"], check=True)
print("theirs", watch.drain())
"""
OBSTACLES = "from wherry.network.firewall import Firewall; print(Firewall('wherry-test').obstacles())"
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


@pytest.fixture
def host() -> Iterator[str]:
    """The path of a network namespace of its own."""
    there = sandbox.create_namespace()
    try:
        yield f"/proc/{os.getpid()}/fd/{there}"
    finally:
        os.close(there)


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["host", "pid namespace"])
def test_own_changes_are_known(host: str, *, pid_namespace: bool) -> None:
    """The kernel names the pid that the host sees: in a PID namespace that pid is somebody else's, or nobody's."""
    apart = ("unshare", "--pid", "--fork", "--mount-proc") if pid_namespace else ()
    words = ("nsenter", f"--net={host}", *apart, sys.executable, "-c", OURS_AND_THEIRS)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=ENVIRONMENT)
    assert done.stdout.splitlines() == ["ours False", "theirs True"], done.stderr


@pytest.mark.parametrize(
    ("last", "extensions"), [("DROP", False), ("REJECT", True)], ids=["without extensions", "with extensions"]
)
def test_foreign_rules_are_looked_at_without_complaints(
    host: str, tmp_path: Path, last: str, *, extensions: bool
) -> None:
    """iptables' extensions may be missing: that is no news for the engine's log, and the last rule is still seen."""
    script = f"iptables -A FORWARD -m comment --comment x -j ACCEPT; iptables -A FORWARD -j {last}"
    subprocess.run(("nsenter", f"--net={host}", "sh", "-ec", script), check=True, env=ENVIRONMENT, timeout=60)
    done = subprocess.run(
        ("nsenter", f"--net={host}", sys.executable, "-c", OBSTACLES),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRONMENT if extensions else {**ENVIRONMENT, "XTABLES_LIBDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"['table ip filter, chain FORWARD: {last.lower()} at its end']\n"
