"""`make run`: the tour runs to its end, shows each chapter, and leaves nothing running."""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT
from wherry.paths import Roots

pytestmark = [pytest.mark.root, pytest.mark.slow]


def _processes(state: Path) -> list[bytes]:
    """The command lines that name the tour's directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue  # it ended
        if str(state).encode() in words:
            found.append(words)
    return found


def test_the_tour_runs_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of it ends with the code that the tour expects; only images and logs stay."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts/tour"))
    chapters = [chapter.__name__ for chapter in importlib.import_module("chapters").CHAPTERS]
    state = Path(tempfile.mkdtemp(prefix="wherry-tour-state-"))
    scratch = Path(tempfile.mkdtemp(prefix="wherry-tour-"))
    roots = Roots(str(state / "data"))
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts/tour")],
            env={**os.environ, "WHERRY_TOUR_STATE": str(state), "TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        log = (state / "wherryd.log").read_text()
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr}\n{log[-2000:]}"
        assert done.stdout.count("\n--- ") > len(chapters)
        assert "Nothing is left running" in done.stdout
        assert "Traceback" not in log
        assert not _processes(state)
        assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
        assert not Path("/sys/class/net", roots.bridge).exists()
        assert not list(scratch.iterdir())
    finally:
        for path in (state, scratch):
            shutil.rmtree(path, ignore_errors=True)
