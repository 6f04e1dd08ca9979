"""What `RUN --mount` mounts: files of other stages and contexts, caches that last, secrets, agents.

A source is never a path of the host that a Dockerfile could choose: it is found inside layers or a context that are
mounted in the step's own namespace, links resolved inside them (CVE-2024-1753, CVE-2024-23651). Caches are directories
of ours. A secret is in memory only, and in no key.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from wherry.builder.agents import Agents
from wherry.builder.contexts.context import Tree
from wherry.builder.contexts.root import Result, Root
from wherry.builder.graph.operations import Exec, Mount
from wherry.builder.ports import RunWorker
from wherry.errors import InvalidArgument, WherryError
from wherry.images.stores import Stores
from wherry.patterns import globs
from wherry.store.atomic import write_atomic

SECRET_LIMIT = 500 * 1024


class Ready:
    """What a task is given.

    Attributes:
        specs: mounts of its configuration.
        data: descriptors of secrets' content, by name; `env` has the variables that hold secrets, each ended by NUL.
        env: further variables.
    """

    def __init__(self) -> None:
        self.specs: list[dict[str, Any]] = []
        self.data: dict[str, int] = {}
        self.env: list[str] = []
        self.secret_env = b""


class CacheLocks:
    """Who uses a cache that one step at a time may have; one for the whole engine."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self.used: dict[str, int] = {}

    def lock(self, key: str) -> asyncio.Lock:
        """The lock of a cache."""
        return self._locks.setdefault(key, asyncio.Lock())


class Mounts:
    """One build's mounts.

    Args:
        directory: where caches lie.
        locks: the engine's.
        secrets: content by id.
        agents: the client's; None where it offers none.
        run_worker: fills a new cache.
    """

    def __init__(
        self,
        directory: str,
        locks: CacheLocks,
        *,
        secrets: dict[str, bytes],
        agents: Agents | None,
        run_worker: RunWorker,
    ) -> None:
        self._directory = directory
        self._locks = locks
        self._secrets = secrets
        self._agents = agents
        self._run_worker = run_worker

    @asynccontextmanager
    async def ready(
        self, op: Exec, inputs: list[Result | None], place: Callable[[str], str], stores: Stores
    ) -> AsyncIterator[Ready]:
        """Prepare what a step mounts; what was only for it goes afterwards.

        Raises:
            InvalidArgument, WherryError: a secret or agent is missing; BuildKit's words.
        """
        ready = Ready()
        async with AsyncExitStack() as stack:
            try:
                await self._lock(op, inputs, stack)
                for index, mount in enumerate(op.mounts):
                    await self._one(ready, index, mount, inputs, place, stores, stack)
                for name, content in op.files:
                    path = f"{place('pipes')}/{hashlib.sha256(name.encode()).hexdigest()[:16]}"
                    with open(path, "wb") as file:
                        file.write(content.encode("utf-8", "surrogateescape"))
                    os.chmod(path, 0o755)
                    ready.specs.append(_bind(f"/dev/pipes/{name}", path, ("ro",)))
                if ready.secret_env:
                    ready.data["env"] = memory_file(ready.secret_env)
                yield ready
            finally:
                for fd in ready.data.values():
                    os.close(fd)

    async def _lock(self, op: Exec, inputs: list[Result | None], stack: AsyncExitStack) -> None:
        """Take every cache that the step has alone: each once, and all steps in the same order.

        Two steps that took the same two caches in their Dockerfiles' order could wait for each other.
        """
        keys = {
            cache_key(mount, inputs[mount.input] if mount.input >= 0 else None)
            for mount in op.mounts
            if mount.kind == "cache" and mount.sharing == "locked"
        }
        for key in sorted(keys):
            await stack.enter_async_context(self._locks.lock(key))

    async def _one(
        self,
        ready: Ready,
        index: int,
        mount: Mount,
        inputs: list[Result | None],
        place: Callable[[str], str],
        stores: Stores,
        stack: AsyncExitStack,
    ) -> None:
        if mount.kind == "tmpfs":
            options = ["nosuid", "nodev", *([f"size={mount.size}"] if mount.size else [])]
            ready.specs.append({"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options})
        elif mount.kind == "secret":
            self._secret(ready, index, mount, place)
        elif mount.kind == "ssh":
            await self._agent(ready, index, mount, place, stack)
        elif mount.kind == "cache":
            path = await self._cache(mount, inputs, place, stores, stack)
            ready.specs.append(_bind(mount.target, path, ("ro",) if mount.read_only else ()))
        else:
            source = inputs[mount.input] if mount.input >= 0 else None
            ready.specs.append(await self._layers(index, mount, source, place, stores, stack))

    async def _layers(
        self,
        index: int,
        mount: Mount,
        source: Result | None,
        place: Callable[[str], str],
        stores: Stores,
        stack: AsyncExitStack,
    ) -> dict[str, Any]:
        """A path inside layers or a context. What is written there is thrown away."""
        upper = work = None
        if not mount.read_only:
            upper = stores.overlay.stage()
            stack.push_async_callback(asyncio.to_thread, stores.overlay.abandon, upper)
            work = f"{os.path.dirname(upper)}/work"
            os.mkdir(work, 0o700)
        joined = stores.overlay.mounts(source.chain_ids if isinstance(source, Root) else [], upper, work)[0]
        options = list(joined.options)
        if isinstance(source, Tree):
            await source.ready()
            # the kernel takes a root without an upper directory from two lower ones on: the empty one stays below
            options = [
                f"lowerdir={source.path}:{word.partition('=')[2]}" if word.startswith("lowerdir=") else word
                for word in options
            ]
        options += [f"wherry.at={place(f'mount{index}')}", f"wherry.path={mount.source or '/'}"]
        return {"destination": mount.target, "type": "overlay", "source": "overlay", "options": options}

    def _secret(self, ready: Ready, index: int, mount: Mount, place: Callable[[str], str]) -> None:
        content = self._secrets.get(mount.id)
        if content is None:
            if mount.required:
                raise InvalidArgument(f"secret {mount.id}: not found")
            return
        if mount.env:
            if b"\0" in content:
                raise InvalidArgument(f"secret {mount.id}: an environment variable cannot hold a NUL byte")
            ready.secret_env += b"%s=%s\0" % (mount.env.encode("utf-8", "surrogateescape"), content)
        if not mount.target:
            return
        name = f"data:{index}"
        if len(content) > SECRET_LIMIT:
            raise WherryError(f"invalid secret size {len(content)}: the limit is {SECRET_LIMIT} bytes")
        ready.data[name] = memory_file(content)
        mode = 0o400 if mount.mode is None else mount.mode
        ready.specs.append(
            {
                "destination": mount.target,
                "type": "wherry-file",
                "source": name,
                "options": [
                    f"mode={mode:o}",
                    f"uid={mount.uid or 0}",
                    f"gid={mount.gid or 0}",
                    f"wherry.at={place(f'mount{index}')}",
                ],
            }
        )

    async def _agent(
        self, ready: Ready, index: int, mount: Mount, place: Callable[[str], str], stack: AsyncExitStack
    ) -> None:
        id_ = mount.id or "default"
        if self._agents is None or id_ not in self._agents:
            if mount.required:
                raise InvalidArgument(f"unset ssh forward key {id_}")
            return
        path = await stack.enter_async_context(
            self._agents.listen(id_, place(f"agent{index}"), mode=mount.mode, uid=mount.uid, gid=mount.gid)
        )
        ready.specs.append(_bind(mount.target, path, ()))
        ready.env.append(f"SSH_AUTH_SOCK={mount.target}")

    async def _cache(
        self,
        mount: Mount,
        inputs: list[Result | None],
        place: Callable[[str], str],
        stores: Stores,
        stack: AsyncExitStack,
    ) -> str:
        """The directory of a cache, made and filled where it is new."""
        source = inputs[mount.input] if mount.input >= 0 else None
        key = cache_key(mount, source)
        if mount.sharing == "private":
            # each at the same time has its own; the first that is free
            number = 0
            while self._locks.lock(f"{key}-{number}").locked():
                number += 1
            key = f"{key}-{number}"
            await stack.enter_async_context(self._locks.lock(key))
        path = f"{self._directory}/{key}"
        self._locks.used[key] = self._locks.used.get(key, 0) + 1
        stack.callback(self._unused, key)
        if not os.path.exists(f"{path}/meta.json"):
            async with self._locks.lock(f"{key} new"):
                await self._new_cache(path, mount, source, place, stores)
        os.utime(f"{path}/meta.json")
        return f"{path}/fs"

    def _unused(self, key: str) -> None:
        self._locks.used[key] -= 1

    async def _new_cache(
        self, path: str, mount: Mount, source: Result | None, place: Callable[[str], str], stores: Stores
    ) -> None:
        if os.path.exists(f"{path}/meta.json"):
            return
        os.makedirs(f"{path}/fs", mode=0o700, exist_ok=True)
        os.chmod(path, 0o700)
        os.chmod(f"{path}/fs", 0o755 if mount.mode is None else mount.mode)
        os.chown(f"{path}/fs", mount.uid or 0, mount.gid or 0)
        if source is not None:
            fds: dict[str, int] = {}
            target = os.open(f"{path}/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                taken: dict[str, Any]
                if isinstance(source, Root):
                    taken = {
                        "mount": stores.overlay.mounts(source.chain_ids, None, None)[0].to_json(),
                        "at": place("cache"),
                    }
                else:
                    await source.ready()
                    fds["source"] = source.open()
                    taken = {"fd": "source"}
                action = {"copy": [globs.escaped(mount.source or "/")], "source": 0, "dest": "/"}
                args = {"root": None, "sources": [taken], "actions": [action]}
                await self._run_worker("files", args, {**fds, "root": target})
            finally:
                for fd in (*fds.values(), target):
                    os.close(fd)
        meta = {"v": 1, "id": mount.id or mount.target}
        write_atomic(f"{path}/meta.json", msgspec.json.encode(meta))


def cache_key(mount: Mount, source: Result | None) -> str:
    """Name of a cache's directory: its id, and what it began with."""
    begun = ""
    if isinstance(source, Root):
        begun = f"{source.chain}\0{mount.source}"
    elif source is not None:
        begun = f"{source.digest((mount.source or '/',), (), exact=True)}\0{mount.source}"
    return hashlib.sha256(f"{mount.id or mount.target}\0{begun}".encode()).hexdigest()[:32]


def memory_file(content: bytes) -> int:
    """A descriptor of content that is nowhere but in memory."""
    fd = os.memfd_create("wherry-secret", os.MFD_CLOEXEC)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return fd


def _bind(target: str, path: str, words: tuple[str, ...]) -> dict[str, Any]:
    options = ["rbind", "rprivate", *words]
    return {"destination": target, "type": "bind", "source": path, "options": options}
