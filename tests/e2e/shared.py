"""Engines that many tests use one after another, each as if it were the first."""

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from typing import Any

from tests.e2e.harness import EngineProcess
from tests.unix_http import UnixConnection

# of patience with an engine that is busy; one that is hung is killed after it
PATIENCE = 20.0
BUSYBOX = "busybox:latest"
# an image goes only after those that were made from it
_PASSES = 8


def ask(engine: EngineProcess, method: str, path: str, body: object = None) -> Any:
    """Make a request of the engine's API: quicker than a command, and several belong to each test.

    Args:
        body: what to send as JSON.

    Returns:
        the answer's JSON, or None where it has none.

    Raises:
        OSError, http.client.HTTPException: the engine does not answer.
    """
    connection = UnixConnection(engine.roots.socket, PATIENCE)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        text = connection.getresponse().read()
    finally:
        connection.close()
    return json.loads(text) if text.startswith((b"{", b"[")) else None


def answers(engine: EngineProcess) -> bool:
    """Whether the engine's process lives and its API answers."""
    if engine.process is None or engine.process.poll() is not None:
        return False
    try:
        ask(engine, "GET", "/version")
    except (OSError, http.client.HTTPException):
        return False
    return True


class Inventory:
    """What an engine has: the ids and names of its containers, networks, volumes and images.

    Args:
        engine: which answers.
    """

    def __init__(self, engine: EngineProcess) -> None:
        self.containers = {found["Id"] for found in ask(engine, "GET", "/containers/json?all=1")}
        self.networks = {found["Id"] for found in ask(engine, "GET", "/networks")}
        self.volumes = {found["Name"] for found in ask(engine, "GET", "/volumes")["Volumes"] or []}
        images = ask(engine, "GET", "/images/json?all=1")
        self.images = {found["Id"] for found in images}
        self.names = {name for found in images for name in found["RepoTags"] or []}

    def beyond(self, before: "Inventory") -> set[str]:
        """What is here and was not there before."""
        kinds = ("containers", "networks", "volumes", "images", "names")
        return {item for kind in kinds for item in getattr(self, kind) - getattr(before, kind)}


def mend(engine: EngineProcess) -> None:
    """Have the engine answer: started again on its data where it has ended or hangs, made anew where that fails."""
    if answers(engine):
        return
    if engine.process is not None:
        with contextlib.suppress(ProcessLookupError):
            engine.process.send_signal(signal.SIGCONT)
        engine.kill()
    try:
        engine.start()
    except AssertionError:
        engine.renew()


def clear(engine: EngineProcess, before: Inventory) -> None:
    """Remove what was not there before; an engine that cannot is made anew.

    Args:
        engine: which answers.
        before: what stays.
    """
    try:
        _remove(engine, before)
    except (OSError, http.client.HTTPException, AssertionError):
        engine.renew()


def _remove(engine: EngineProcess, before: Inventory) -> None:
    left = Inventory(engine)
    for _ in range(_PASSES):
        for id_ in left.containers - before.containers:
            ask(engine, "DELETE", f"/containers/{id_}?force=1&v=1")
        for id_ in left.networks - before.networks:
            ask(engine, "DELETE", f"/networks/{id_}")
        for name in left.volumes - before.volumes:
            ask(engine, "DELETE", f"/volumes/{name}?force=1")
        for name in (left.names - before.names) | (left.images - before.images):
            ask(engine, "DELETE", f"/images/{name}?force=1")
        left = Inventory(engine)
        if not left.beyond(before):
            break
    assert not left.beyond(before), left.beyond(before)
    if BUSYBOX in before.names - left.names:
        engine.wherry("image", "bootstrap", "busybox")


@contextlib.contextmanager
def lent(engine: EngineProcess) -> Iterator[EngineProcess]:
    """Lend an engine to one test. Before it, the engine answers; after it, what the test made is removed.

    One failing test fails no other: an engine that it killed or hung is started again, and an error in the engine's log
    is reported once.

    Args:
        engine: shared with other tests; its process may be another one afterwards.

    Raises:
        AssertionError: the engine met an unexpected error during the test.
    """
    mend(engine)
    flags = engine.flags
    before = Inventory(engine)
    try:
        yield engine
    finally:
        engine.flags = flags
        mend(engine)
        clear(engine, before)
    engine.assert_no_traceback()
