"""`kill -9` and a full disk at every step of volume create and rm, and of containers with volumes (section G)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.inject import Injector
from tests.volumes import fault_bodies
from tests.volumes.fault_bodies import Engine

pytestmark = pytest.mark.root

BODIES = "tests.volumes.fault_bodies"


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    """The warm process."""
    with Injector() as made:
        yield made


class Case:
    """A data root that each run finds in the same state: a volume `old` with a file, and perhaps a container `box`."""

    def __init__(self, base: Path, *, box: bool) -> None:
        self.root = base / "data"
        self._template = base / "template"
        engine = Engine(str(self._template))
        engine.volumes.create("old")
        Path(engine.volumes.data("old"), "precious").write_text("data")
        if box:
            fault_bodies.make_container({"root": str(self._template)})

    def prepare(self) -> None:
        """Put the data root back."""
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", self._template, self.root], check=True)

    def start(self) -> tuple[list[str], list[str]]:
        """Start again, hold that all is whole and nothing is left over; (containers, volumes) by name."""
        engine = Engine(str(self.root))
        engine.sweep()
        names = sorted(volume.name for volume in engine.volumes)
        on_disk = sorted(os.listdir(engine.roots.volumes))
        assert on_disk == names, on_disk
        for name in names:
            assert sorted(os.listdir(engine.volumes.path(name))) == ["_data", "volume.json"]
        containers = []
        for container in engine.context.registry:
            containers.append(container.name)
            for point in container.record.mounts or ():
                if point.name in names and point.name != "old":
                    assert os.listdir(engine.volumes.data(point.name)) == ["filled"], point.name
        assert sorted(os.listdir(engine.roots.containers)) == sorted(c.id for c in engine.context.registry)
        return containers, [name if len(name) < 64 else "anonymous" for name in names]

    @property
    def arguments(self) -> dict[str, str]:
        """What bodies are given."""
        return {"root": str(self.root)}


@pytest.mark.parametrize("kind", ["kill", "full"])
@pytest.mark.parametrize(
    ("body", "box", "before", "after"),
    [
        ("make_volume", False, ([], ["old"]), ([], ["new", "old"])),
        ("remove_volume", False, ([], ["old"]), ([], [])),
        ("make_container", False, ([], ["old"]), (["box"], ["anonymous", "new", "old"])),
        ("remove_container", True, (["box"], ["anonymous", "new", "old"]), ([], ["new", "old"])),
    ],
)
def test_every_step(
    injector: Injector,
    tmp_path: Path,
    kind: str,
    body: str,
    box: bool,
    before: tuple[list[str], list[str]],
    after: tuple[list[str], list[str]],
) -> None:
    """It has happened whole or not at all, nothing is left over, and asked again it succeeds."""
    case = Case(tmp_path, box=box)
    # a removal takes the anonymous volume first: killed then, the container is still there, and goes when asked again
    allowed = [before, after, *([(["box"], ["new", "old"])] if body == "remove_container" else [])]
    steps = 0
    for at, outcome in injector.every(kind, f"{BODIES}:{body}", case.arguments, case.prepare):
        steps += 1
        found = case.start()
        assert found in allowed, (at, outcome.hit)
        if "old" in found[1]:
            assert (case.root / "volumes/old/_data/precious").read_text() == "data"
        if outcome.ended == "returned":
            assert found == after, (at, outcome.hit)
        elif kind == "full":
            assert outcome.ended == "raised" and "space" in outcome.error.lower(), (outcome.hit, outcome.error)
            assert found != after or body.startswith("remove"), (at, outcome.hit)
        if found != after:
            assert injector.run(f"{BODIES}:{body}", case.arguments).ended == "returned", (at, outcome.hit)
            assert case.start() == after, (at, outcome.hit)
    assert steps > 1
