"""One failing test does not fail those that share its engine: shown by an inner run of pytest, with tests that fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT

pytestmark = pytest.mark.root

INNER = '''
import os, signal
import pytest
from tests.e2e import shared
from tests.e2e.conftest import engine, shared_engine

shared.PATIENCE = 3.0

@pytest.fixture(autouse=True, scope="module")
def kept(shared_engine):
    """What a module needs outlives its tests."""
    shared_engine.docker("network", "create", "kept")
    yield
    assert "kept" in shared_engine.docker("network", "ls").out

def fill(engine):
    engine.docker("network", "create", "--subnet", "10.213.7.0/24", "net")
    engine.docker("volume", "create", "vol")
    engine.docker("tag", "busybox", "other")
    run = ("run", "-d", "--network", "net", "-p", "127.0.0.1:28391:80", "-v", "vol:/v", "--name", "web")
    engine.docker(*run, "busybox", "sleep", "600")
    engine.docker("commit", "web", "made")

def leaves_all(engine):
    engine.docker("pause", "web")

def kills(engine):
    engine.kill()

def hangs(engine):
    os.kill(engine.pid, signal.SIGSTOP)

def loses_its_image(engine):
    engine.docker("rm", "-f", "web")
    engine.docker("rmi", "-f", "busybox", "other", "made")

def changes_flags(engine):
    engine.stop()
    engine.flags = ("--no-such-flag",)

def leaves_a_traceback(engine):
    with open(engine.log, "a") as log:
        log.write("Traceback (most recent call last)")

'''
# a test that does harm, and one that needs an engine as it should be
PAIR = """
def test_{harm}(engine):
    fill(engine)
    {harm}(engine)
    assert {harm} is leaves_a_traceback, "meant to fail"

def test_after_{harm}(engine):
    assert engine.docker("ps", "-aq").out == engine.docker("volume", "ls", "-q").out == ""
    assert engine.docker("image", "ls", "--format", "{{{{.Repository}}}}").out == "busybox\\n"
    engine.docker("run", "--name", "web", "-p", "127.0.0.1:28391:80", "busybox", "true")
"""
HARMS = ("leaves_all", "kills", "hangs", "loses_its_image", "changes_flags", "leaves_a_traceback")


def test_a_failure_is_one_test_s_alone(tmp_path: Path) -> None:
    """Whatever a failing test does to the engine, the next test passes; an error in the engine's log is told once."""
    (tmp_path / "test_inner.py").write_text(INNER + "".join(PAIR.format(harm=harm) for harm in HARMS))
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    done = subprocess.run(
        [*command, "-c", os.devnull, str(tmp_path / "test_inner.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    told = re.findall(r"^(PASSED|FAILED|ERROR) \S+::test_(\w+)", done.stdout, re.MULTILINE)
    wanted = {("FAILED", harm) for harm in HARMS[:-1]} | {("PASSED", f"after_{harm}") for harm in HARMS}
    wanted |= {("PASSED", HARMS[-1]), ("ERROR", HARMS[-1])}
    assert set(told) == wanted, done.stdout + done.stderr
