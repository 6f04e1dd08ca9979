"""What holds for the whole suite: where CI runs, a tool that is missing is a failure; who is terminated cleans up."""

import os
import signal
from types import FrameType

import pytest

_MISSING = ("not installed", "needs debian's", "needs dockerd", "no docker command")


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
