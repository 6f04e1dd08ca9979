"""Pure cgroup v2 with all controllers, on Debian's kernel with its modules: a virtual machine, booted once."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import checkpoint_scenarios
from tests.vm import checks_cgroups, checks_engine
from tests.vm.machine import Results, boot
from tests.vm.names import names
from tests.vm.tree import has_criu

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the machine is one of x86_64"),
]

SECONDS = 900  # of patience: it takes 80 where nothing else runs
ALL = [
    *(f"cgroups-{name}" for name in names(checks_cgroups)),
    "engine-starts",
    *(f"engine-{name}" for name in names(checks_engine)),
    *(f"checkpoint-{name}" for name in checkpoint_scenarios.NAMES if has_criu()),
    "engine-ends",
]


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    """Give what the machine found out."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="wherry-vm-") as directory:
        yield boot(Path(directory), python=sys.executable, root=root, seconds=SECONDS)


@pytest.mark.parametrize("check", ALL)
def test_unified(results: Results, check: str) -> None:
    """The check of that name held in the machine."""
    if check not in results.seconds:
        pytest.fail(f"{check} did not end; the console says:\n{results.console[-4000:]}", pytrace=False)
    if error := results.errors.get(check):
        pytest.fail(f"{error}\nconsole:\n{results.console[-1500:]}", pytrace=False)
