"""Cut a scenario off at each of its steps, and look at what is left. Run as a program: it forks.

python -m tests.registry.crash_run SCENARIO kill|full DIRECTORY
"""

import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.registry.harness import MANIFEST, digest_of, manifest_of
from wherry.errors import NotFound, WherryError
from wherry.registry.content.check import check
from wherry.registry.content.collect import Collector
from wherry.registry.content.repositories import Repositories
from wherry.registry.content.uploads import Uploads
from wherry.registry.errors import OutOfSpace
from wherry.registry.metadata.database import Database
from wherry.registry.storage.filesystem import Filesystem

OLD, NEW, SHARED = b"old layer" * 100, b"new layer" * 100, b"shared layer" * 100
GARBAGE = b"garbage" * 100
CONFIG = b'{"architecture":"amd64","os":"linux"}'
GROWS = (
    "create",
    "append.write",
    "append.sync",
    "put.open",
    "put.write",
    "put.sync",
    "mkdir",
    "link",
    "rename",
    "commit.utime",
)


class Place:
    """A registry's root, opened anew."""

    def __init__(self, root: Path, steps: Callable[[str, str], None] = lambda *_: None) -> None:
        self.driver = Filesystem(str(root), steps)
        self.database = Database(f"sqlite:///{root}/metadata.db")
        self.repositories = Repositories(self.driver, self.database)
        self.uploads = Uploads(self.repositories)

    def blob(self, name: str, data: bytes) -> None:
        """Push a blob in two pieces."""
        upload = self.uploads.start(name)
        upload.write(data[:10])
        upload.close()
        upload = self.uploads.resume(name, upload.session)
        try:
            upload.write(data[10:])
            upload.finish(digest_of(data))
        finally:
            upload.close()

    def close(self) -> None:
        """Close it."""
        self.database.close()
        self.driver.close()


def prepare(place: Place) -> None:
    """What is there before: an image that must survive, a blob elsewhere, garbage that is due."""
    for data in (CONFIG, OLD):
        place.blob("r", data)
    place.repositories.put_manifest("r", "old", manifest_of(CONFIG, OLD), MANIFEST)
    place.blob("source", SHARED)
    place.repositories.put_manifest("source", "kept", manifest_of_source(place), MANIFEST)
    place.blob("r", GARBAGE)
    place.blob("empty", GARBAGE)
    place.repositories.put_manifest("r", "stale", manifest_of(CONFIG, OLD, annotations={"a": "b"}), MANIFEST)
    place.repositories.delete_tag("r", "stale")


def manifest_of_source(place: Place) -> bytes:
    """Push what a manifest of `source` needs, and return it."""
    place.blob("source", CONFIG)
    return manifest_of(CONFIG, SHARED)


def upload(place: Place) -> None:
    """A blob comes into a repository that is not there yet."""
    place.blob("fresh", NEW)


def mount(place: Place) -> None:
    """A blob is mounted."""
    place.repositories.mount("r", "source", digest_of(SHARED))


def put(place: Place) -> None:
    """A manifest is pushed, and the tag `old` moved to it."""
    place.blob("r", NEW)
    place.repositories.put_manifest("r", "old", manifest_of(CONFIG, NEW), MANIFEST, tags=["new"])


def delete(place: Place) -> None:
    """A manifest is deleted."""
    digest = digest_of(manifest_of(CONFIG, OLD, annotations={"a": "b"}))
    try:
        place.repositories.delete_manifest("r", digest)
    except NotFound:
        return  # it was, before the end of the first try


def collect(place: Place) -> None:
    """A collection, in which everything is due."""
    Collector(place.repositories, delay=0, upload_delay=0, delete_untagged=True).collect()


SCENARIOS = {call.__name__: call for call in (upload, mount, put, delete, collect)}


def verify(root: Path, scenario: str, *, finished: bool) -> None:
    """What must hold after any end: all that was reachable is whole, nothing is half there, the rest can be cleaned."""
    place = Place(root)
    try:
        place.repositories.catch_up()
        report = check(place.repositories)
        assert report.problems == [], report.problems
        snapshot = place.repositories.load("r")
        old, new = digest_of(manifest_of(CONFIG, OLD)), digest_of(manifest_of(CONFIG, NEW))
        allowed = {old, new} if scenario == "put" else {old}
        assert snapshot.tags["old"] in allowed
        if scenario == "put":
            assert ("new" in snapshot.tags) == (snapshot.tags["old"] == new), "tags move together"
        assert place.repositories.load("source").tags
        for name in place.repositories.names():
            assert place.database.version(name) == place.repositories.load(name).version
        if finished and scenario == "upload":
            assert place.repositories.stat_blob("fresh", digest_of(NEW)).size == len(NEW)
        if finished and scenario == "put":
            assert snapshot.tags["old"] == new
        # and it goes on from here
        SCENARIOS[scenario](place)
        assert check(place.repositories).problems == []
        place.driver.sweep(time.time_ns() + 10**9)
        collect(place)
        collect(place)
        assert check(place.repositories).problems == []
        assert place.driver.list("tmp") == []
        assert all(place.driver.list(f"uploads/{name}") == [] for name in place.driver.list("uploads"))
        held = {
            name for kind in ("r", "fresh", "empty") for name in place.driver.list(f"repositories/{kind}/blobs/sha256")
        }
        assert digest_of(GARBAGE)[7:] not in held
    finally:
        place.close()


def run_killed(root: Path, scenario: str, step: int) -> bool:
    """Run in a child that kills itself before a step; returns whether it came to its end instead."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            left = step

            def count(_step: str, _key: str) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            SCENARIOS[scenario](Place(root, count))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert status == 0, f"the child ended with {status}"
    return True


def run_full(root: Path, scenario: str, step: int) -> bool:
    """Run with a device that is full from a step on; returns whether it came to its end."""
    left = step

    def count(name: str, _key: str) -> None:
        nonlocal left
        left -= 1
        if left <= 0 and name in GROWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place = Place(root, count)
    try:
        SCENARIOS[scenario](place)
    except OutOfSpace:
        return False
    except WherryError as error:
        raise AssertionError(f"full device was called {error!r}") from error
    finally:
        place.close()
    return left > 0


def main(scenario: str, how: str, directory: Path) -> None:
    """Go through all steps of a scenario."""
    template = directory / "template"
    place = Place(template)
    prepare(place)
    place.close()
    step = 0
    while True:
        step += 1
        root = directory / f"{how}-{step}"
        shutil.copytree(template, root)
        finished = (run_killed if how == "kill" else run_full)(root, scenario, step)
        try:
            verify(root, scenario, finished=finished)
        except BaseException as error:
            error.add_note(f"{scenario}, {how} at step {step}, in {root}")
            raise
        shutil.rmtree(root)
        if finished:
            break
    print(step - 1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
