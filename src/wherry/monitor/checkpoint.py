"""A running container's checkpoint, taken by a helper of its monitor: frozen, dumped, and only then ended or let go on.

It is staged beside its place under a name that no checkpoint has, made durable, and renamed. So it is whole or not
there, and a container that ends with it ends after that; what a killed helper has staged goes before the next one.
"""

import os

from wherry.errors import Conflict, KernelError, NotSupported, WherryError
from wherry.linux.files import sync_directory
from wherry.monitor.helper import Helper
from wherry.monitor.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
    from wherry.monitor.execs import Execs
    from wherry.monitor.health import Health
    from wherry.monitor.streams import Streams

_PROBE_PAUSE = 0.05


class Checkpoint:
    """One checkpoint under way.

    Args:
        loop: the monitor's.
        sandbox: where the container lives.
        launch: its launch object.
        pid: process 1.
        message: the request: `directory`, which is there, and `name` in it; `exit`: end the container; `criu`, `log`.
        streams: its standard streams.
        paused: it is frozen already, and stays so.
        health: its check, which waits.
        execs: what else runs in it.
        reply: called in the end with nothing, or the error, when the container goes on, or is being killed.

    Attributes:
        under_way: nothing else may freeze the container, or start a process in it.

    Raises:
        NotSupported: it is no container.
        Conflict: processes that were executed in it run: a checkpoint is of process 1 and what it has started.
        KernelError: it cannot be frozen.
    """

    __slots__ = (
        "_health",
        "_launch",
        "_loop",
        "_message",
        "_paused",
        "_pid",
        "_pipes",
        "_reply",
        "_sandbox",
        "under_way",
    )

    def __init__(
        self,
        loop: "Loop",
        sandbox: object,
        launch: "dict[str, Any]",
        pid: int,
        message: "dict[str, Any]",
        streams: "Streams | None",
        *,
        paused: bool,
        health: "Health | None",
        execs: "Execs",
        reply: "Callable[[dict[str, Any], Exception | None], None]",
    ) -> None:
        if not isinstance(sandbox, Sandbox):
            raise NotSupported("a helper has no checkpoints")
        if execs.running:
            raise Conflict("processes of exec run in the container: a checkpoint can hold only those of process 1")
        self._loop = loop
        self._sandbox = sandbox
        self._launch = launch
        self._pid = pid
        self._message = {name: message[name] for name in ("directory", "name", "exit", "criu", "log")}
        self._pipes = {str(number): fd for fd, number in (streams.sources if streams else {}).items()}
        if streams is not None and streams.sink is not None:
            self._pipes["0"] = streams.sink.fd
        self._paused = paused
        self._health = health
        self._reply = reply
        self.under_way = True
        if health is not None:
            health.pause(True)
        self._begin()

    def _begin(self) -> None:
        if self._health is not None and self._health.probing:
            self._loop.call_later(_PROBE_PAUSE, self._begin)
            return
        try:
            if not self._paused:
                self._sandbox.freeze(True)
            Helper(self._loop, self._dump, lambda: None, self._done, str(self._launch["id"]))
        except WherryError as error:
            self._done({}, {}, error)

    def _dump(self) -> "tuple[dict[str, Any], dict[str, int]]":
        message = self._message
        directory, prefix = message["directory"], f".{self._launch['id'][:12]}-"
        for entry in os.scandir(directory):
            if entry.name.startswith(prefix):
                _discard(entry.path)
        stage, target = f"{directory}/{prefix}{message['name']}", f"{directory}/{message['name']}"
        os.mkdir(stage, 0o700)
        try:
            self._sandbox.dump(self._launch, self._pid, self._pipes, stage, message["criu"], message["log"])
            try:
                os.rename(stage, target)
            except OSError as error:
                raise KernelError("rename", error.errno or 0, target) from None
            sync_directory(directory)
        except BaseException:
            _discard(stage)
            raise
        return {}, {}

    def _done(self, _values: "dict[str, Any]", _given: "dict[str, int]", error: "WherryError | None") -> None:
        if error is None and self._message["exit"]:
            try:
                self._sandbox.kill()
            except WherryError as another:
                error = another
            else:
                self._end(None)
                return
        try:
            if not self._paused:
                self._sandbox.freeze(False)
        except WherryError as another:
            error = error or another
        if self._health is not None and not self._paused:
            self._health.pause(False)
        self._end(error)

    def _end(self, error: "WherryError | None") -> None:
        self.under_way = False
        self._reply({}, error)


def _discard(directory: str) -> None:
    try:
        for entry in os.scandir(directory):
            os.unlink(entry.path)
        os.rmdir(directory)
    except FileNotFoundError:
        return
