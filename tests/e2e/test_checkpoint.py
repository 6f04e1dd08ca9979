"""Checkpoint and restore on the host's own kernel, where the host has a CRIU that works with it.

Everywhere else they are not even collected, and nothing is lost: the same scenarios always run in the tests' virtual
machine (`tests/vm/test_unified.py`), with the kernel that Debian's CRIU was made for.
`test_checkpoint_refused.py` has what is said where there is no CRIU, or none that works.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e import checkpoint_scenarios
from tests.e2e.harness import EngineProcess, running
from tests.e2e.shared import lent
from tests.vm import test_unified
from tests.vm.tree import has_criu

pytestmark = pytest.mark.root

NAMES = checkpoint_scenarios.NAMES


def _works() -> bool:
    criu = shutil.which("criu")
    if criu is None or subprocess.run([criu, "check"], capture_output=True, check=False).returncode != 0:
        return False
    with socket.socket() as inet:
        try:
            # CRIU (4.1 at least) asks it of every socket; newer kernels know it of Unix sockets only
            inet.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
        except OSError:
            return False
    return True


if _works():

    @pytest.fixture(scope="module")
    def machine() -> Iterator[EngineProcess]:
        """Give an engine that may be killed and restarted."""
        with running(EngineProcess()) as engine:
            yield engine

    @pytest.mark.parametrize("name", NAMES)
    def test_on_the_host(machine: EngineProcess, name: str) -> None:
        """The scenario of that name, with the host's kernel and cgroups."""
        with lent(machine):
            getattr(checkpoint_scenarios, name)(machine)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the machine is one of x86_64")
def test_every_scenario_is_in_the_virtual_machine() -> None:
    """None is forgotten there, wherever Debian has CRIU."""
    assert {f"checkpoint-{name}" in test_unified.ALL for name in NAMES} == {has_criu()}
