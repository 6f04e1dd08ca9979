"""Create, rename, update and removal of containers under `kill -9` and a full disk at every step (section G)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import containers
from tests.faults.inject import Injector

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    """The warm process."""
    with Injector() as made:
        yield made


class Case:
    """Roots that each run finds in the same state: the container `kept`, and perhaps `web`."""

    def __init__(self, base: Path, *, web: bool) -> None:
        self.root = base / "roots"
        self._template = base / "template"
        for name in ("kept", "web") if web else ("kept",):
            containers.make({"root": str(self._template), "name": name})

    def prepare(self) -> None:
        """Put the roots back."""
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", self._template, self.root], check=True)

    def found(self) -> dict[str, Any]:
        """Start again; hold that no state is empty or half, and that nothing lies about."""
        found = containers.containers_of(str(self.root))
        directories = os.listdir(self.root / "data/containers")
        assert sorted(directories) == sorted(container.id for container in found.values())
        for id_ in directories:
            files = os.listdir(self.root / "data/containers" / id_)
            assert set(files) <= {"container.json", "upper", "work"}, files
            assert (self.root / "data/containers" / id_ / "container.json").stat().st_size
        assert "kept" in found
        return dict(found)

    def arguments(self, **more: str) -> dict[str, Any]:
        """What bodies are given."""
        return {"root": str(self.root), "name": "web", **more}


def full(outcome: Any) -> None:
    """The error of a full disk says so."""
    assert outcome.ended == "raised", outcome.hit
    assert "no space left" in outcome.error.lower(), (outcome.hit, outcome.error)


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_create(injector: Injector, tmp_path: Path, kind: str) -> None:
    """It is there, whole, or nothing of it is; its name can be taken then."""
    case = Case(tmp_path, web=False)
    seen = set()
    for _, outcome in injector.every(kind, "tests.faults.containers:make", case.arguments(), case.prepare):
        there = "web" in case.found()
        seen.add(there)
        if outcome.ended == "returned":
            assert there, outcome.hit
        elif kind == "full":
            full(outcome)
            assert not there, outcome.hit
        if not there:
            assert injector.run("tests.faults.containers:make", case.arguments()).ended == "returned"
            assert "web" in case.found()
    assert False in seen


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_remove(injector: Injector, tmp_path: Path, kind: str) -> None:
    """It is there, whole, or gone; the other stays. A full disk does not keep it."""
    case = Case(tmp_path, web=True)
    for _, outcome in injector.every(kind, "tests.faults.containers:drop", case.arguments(), case.prepare):
        there = "web" in case.found()
        if outcome.ended == "returned":
            assert not there, outcome.hit
        if there:
            assert injector.run("tests.faults.containers:drop", case.arguments()).ended == "returned"
            assert "web" not in case.found()


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_rename(injector: Injector, tmp_path: Path, kind: str) -> None:
    """It has the one name or the other."""
    case = Case(tmp_path, web=True)
    seen = set()
    arguments = case.arguments(other="shop")
    for _, outcome in injector.every(kind, "tests.faults.containers:call", arguments, case.prepare):
        name = (set(case.found()) - {"kept"}).pop()
        seen.add(name)
        if outcome.ended == "returned":
            assert name == "shop", outcome.hit
        elif kind == "full":
            full(outcome)
    assert "web" in seen


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_update(injector: Injector, tmp_path: Path, kind: str) -> None:
    """Everything that was asked holds, or nothing does."""
    case = Case(tmp_path, web=True)
    seen = set()
    for _, outcome in injector.every(kind, "tests.faults.containers:change", case.arguments(), case.prepare):
        host = case.found()["web"].record.host_config
        values = (host.restart_policy.name, host.restart_policy.maximum_retry_count)
        seen.add(values)
        if outcome.ended == "returned":
            assert values == ("on-failure", 7), outcome.hit
        elif kind == "full":
            full(outcome)
    assert ("always", 0) in seen
    assert seen <= {("always", 0), ("on-failure", 7)}
