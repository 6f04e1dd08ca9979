"""What holds for the whole suite: where CI runs, a tool that is missing is a failure, not a skip."""

import os

import pytest

_MISSING = ("not installed", "needs debian's", "needs dockerd", "no docker command")


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
