"""Hooks for the whole suite: the Docker programs that it uses, a clean end, and an account of what was left out."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests import peers, skips

ROOT = Path(__file__).resolve().parents[1]
# what needs neither root nor another program
_ALONE = ("tests/unit", "tests/test_architecture.py", "tests/test_security.py")

# with another action of SIGPIPE, say, the next connection that breaks ends the session without a word
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--long`."""
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes (make test-all)")


def pytest_configure(config: pytest.Config) -> None:
    """Make sure that `docker` is the suite's own command, before a test module looks for it; list what is left out."""
    report = skips.Report(long=config.getoption("long"), strict=bool(os.environ.get("CI")))
    config.pluginmanager.register(report, "left-out")
    paths = [(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args]
    alone = [ROOT / path for path in _ALONE]
    if os.geteuid() == 0 and not all(any(path.is_relative_to(one) for one in alone) for path in paths):
        peers.make()
    peers.prepare()


def pytest_sessionstart() -> None:
    """Take SIGTERM, as of timeout(1), for the end of the session: fixtures give back what they have made."""
    ours = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == ours:
            pytest.exit("terminated", returncode=128 + number)
        # a child that a test has forked: it has nothing to give back
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    # a shell starts what runs in its background with SIGINT ignored; programs inherit that, and Ctrl-C would end none
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """Fail a test that leaves another action for a signal to those after it."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    changed = [number for number in _SIGNALS if signal.getsignal(number) != before[number]]
    for number in changed:
        signal.signal(number, before[number])
    assert not changed
