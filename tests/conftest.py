"""Hooks for the whole suite: the Docker programs that it uses, a clean end, and no skipped test under CI."""

import os
import signal
from pathlib import Path
from types import FrameType

import pytest

from tests import peers

ROOT = Path(__file__).resolve().parents[1]
# what needs neither root nor another program
_ALONE = ("tests/unit", "tests/test_architecture.py", "tests/test_security.py")

_MISSING = ("not installed", "needs debian's")


def pytest_configure(config: pytest.Config) -> None:
    """Make sure that `docker` is the suite's own command, before a test module looks for it."""
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


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session under CI when a test was skipped for want of a tool that `make peers` should have installed."""
    if not os.environ.get("CI"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    reasons = {str(report.longrepr[-1]) for report in skipped if isinstance(report.longrepr, tuple)}
    missing = sorted(reason for reason in reasons if any(word in reason.lower() for word in _MISSING))
    if missing:
        print(f"\nskipped for want of a tool, which is a failure here: {missing}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
