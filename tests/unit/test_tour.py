"""What `make run` shows while a command of it still runs."""

import importlib
import io
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_tour_shows_output_as_it_comes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command that takes minutes is not silent for minutes: its first line is shown before its last is printed."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts/tour"))
    stage = importlib.import_module("stage")
    seen = tmp_path / "seen"
    program = tmp_path / "wherry"
    waits = f"for _ in $(seq 100); do [ -e {seen} ] && echo last && exit; sleep 0.1; done; exit 1"
    program.write_text(f"#!/bin/sh\necho first\n{waits}\n")
    program.chmod(0o755)

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if "first" in text:
                seen.touch()
            return super().write(text)

    monkeypatch.setattr(stage, "BIN", tmp_path)
    monkeypatch.setattr(sys, "stdout", Screen())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert stage.Stage().sh("image", "bootstrap", "busybox") == "first\nlast"
