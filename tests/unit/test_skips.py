"""What a run leaves out is listed; under CI only named reasons are accepted."""

import os
import subprocess
import sys
from pathlib import Path

from tests import skips

ROOT = Path(__file__).resolve().parents[2]
_CONFTEST = """
import os
from tests import skips

def pytest_configure(config):
    report = skips.Report(long=bool(os.environ.get("LONG")), strict=bool(os.environ.get("CI")))
    config.pluginmanager.register(report)
"""
_NAMED = "this kernel has no br_netfilter: as ever"


def _run(directory: Path, text: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest on a module with this text."""
    (directory / "conftest.py").write_text(_CONFTEST)
    (directory / "pytest.ini").write_text("[pytest]\nmarkers =\n  long: x\n  root: x\n")
    (directory / "test_it.py").write_text(f"import pytest\n\ndef test_good():\n    pass\n\n{text}\n")
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(directory)],
        cwd=directory,
        env={**inherited, "PYTHONPATH": f"{ROOT}:{ROOT}/src", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _skipped(reason: str, name: str = "test_skipped") -> str:
    return f"def {name}():\n    pytest.skip({reason!r})\n"


def test_a_skip_is_listed_with_its_reason(tmp_path: Path) -> None:
    """A user's run stays green, and says what it did not do."""
    done = _run(tmp_path, _skipped("frobnicate is not installed"))
    assert done.returncode == 0
    assert "frobnicate is not installed: 1 skipped\n    test_it.py::test_skipped\n" in done.stdout


def test_under_ci_a_skip_fails_the_run_however_it_was_made(tmp_path: Path) -> None:
    """Called, marked, of a whole module, or by an import that is not there."""
    (tmp_path / "test_import.py").write_text('import pytest\npytest.importorskip("no_such_module_anywhere")\n')
    (tmp_path / "test_module.py").write_text('import pytest\npytest.skip("not here", allow_module_level=True)\n')
    marked = '@pytest.mark.skipif(True, reason="no such tool")\ndef test_marked():\n    pass\n'
    done = _run(
        tmp_path, f"{_skipped('frobnicate is not installed')}\n{marked}\n{_skipped(_NAMED, 'test_named')}", CI="true"
    )
    assert done.returncode == 1
    assert done.stdout.count("NOT accepted") == 4
    for reason in ("not here: 1", "no such tool: 1", "no_such_module_anywhere"):
        assert reason in done.stdout


def test_under_ci_a_named_reason_is_accepted(tmp_path: Path) -> None:
    """`tests/skips.py` says why; and what is expected to fail is no skip."""
    known = '@pytest.mark.xfail(reason="known")\ndef test_known():\n    assert False\n'
    done = _run(tmp_path, f"{_skipped(_NAMED)}\n{known}", CI="true")
    assert done.returncode == 0, done.stdout
    assert f"{_NAMED}: 1 skipped" in done.stdout and "  accepted: " in done.stdout


def test_long_tests_are_left_to_test_all(tmp_path: Path) -> None:
    """They are no skips, but named at the end; asked for, they run."""
    text = "@pytest.mark.long\ndef test_hours():\n    assert False\n"
    left = _run(tmp_path, text, CI="true")
    assert left.returncode == 0 and "1 long tests, which `make test-all` runs: test_it.py" in left.stdout
    assert _run(tmp_path, text, LONG="1").returncode == 1


def test_each_named_reason_is_a_tests() -> None:
    """What no test gives as its reason any more is not named."""
    texts = [
        path.read_text()
        for path in (ROOT / "tests").rglob("*.py")
        if path.name not in ("skips.py", Path(__file__).name)
    ]
    assert not [reason for reason in skips.NAMED if not any(reason in text for text in texts)]
