"""What a run of the tests leaves out: listed at its end, and a failure under CI unless the reason is named here.

`Report` is a pytest plugin, registered by `tests/conftest.py`.
"""

import os
from collections import defaultdict

import pytest

# how a reason begins -> why a run without that test is still a good one
NAMED = {
    "this host's cgroups do not offer": "the kernel has fewer controllers; the machine of tests/vm has all of them",
    "this host has no v1 controllers": "a host with cgroup v2 alone; `make worlds` has hosts of both kinds",
    "no v2 tree with huge pages here": "the hugetlb controller is in v1 here; `make worlds` has hosts of both kinds",
    "this kernel has no br_netfilter": "without it, bridged frames never pass the firewall, as the test wants them to",
    "the machine is one of x86_64": "tests/vm boots a kernel of x86-64 only",
    "calls by the numbers of x86_64": "system calls have other numbers on this architecture",
    "the numbers of this test are those of x86_64": "system calls have other numbers on this architecture",
}
ROOT = "needs root"


def named(reason: str) -> str:
    """Why this skip is one of the named few; empty if it is not."""
    return next((why for begin, why in NAMED.items() if reason.startswith(begin)), "")


class Report:
    """Collects what is skipped, and leaves out tests marked `long` unless they are wanted.

    Args:
        long: whether they are.
        strict: whether a skip that is not named fails the run.
    """

    def __init__(self, *, long: bool, strict: bool) -> None:
        self._long = long
        self._strict = strict
        self._skipped: dict[str, list[str]] = defaultdict(list)
        self._left: list[str] = []

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Take the long tests out; a user who is not root runs what needs no root."""
        if not self._long:
            left = [item for item in items if item.get_closest_marker("long")]
            items[:] = [item for item in items if not item.get_closest_marker("long")]
            self._left = [item.nodeid for item in left]
            config.hook.pytest_deselected(items=left)
        if os.geteuid() != 0:
            for item in items:
                if item.get_closest_marker("root"):
                    item.add_marker(pytest.mark.skip(reason=ROOT))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a test that was skipped."""
        self._remember(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember a module that was skipped."""
        self._remember(report)

    def _remember(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            self._skipped[str(report.longrepr[2]).removeprefix("Skipped: ")].append(report.nodeid)

    def unnamed(self) -> list[str]:
        """The reasons that nobody has named."""
        return sorted(reason for reason in self._skipped if not named(reason))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run for a skip that is not named."""
        if self._strict and self.unnamed() and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the list."""
        if not self._skipped and not self._left:
            return
        line = terminalreporter.write_line
        terminalreporter.section("left out")
        if self._left:
            files = sorted({name.partition("::")[0] for name in self._left})
            line(f"{len(self._left)} long tests, which `make test-all` runs: {', '.join(files)}")
        for reason, names in sorted(self._skipped.items()):
            line(f"{reason}: {len(names)} skipped")
            for name in sorted(set(names)):
                line(f"    {name}")
            why = named(reason)
            if why:
                line(f"  accepted: {why}")
            elif self._strict:
                line("  NOT accepted: tests/skips.py does not name this reason, so the run fails", red=True)
