"""Trees that come from outside: archives, downloads, checkouts. One build's, gone with it."""

import asyncio
import os
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from hashlib import sha256
from types import TracebackType
from typing import Self

from wherry.builder.contexts import context as contexts
from wherry.builder.contexts.checkout import Outside, checkout
from wherry.builder.contexts.context import Tree
from wherry.builder.graph.operations import GitSource, HttpSource
from wherry.builder.graph.remotes import git_source, http_source, is_git, is_http
from wherry.builder.language.ignorefile import Matcher, clean, read_ignorefile
from wherry.builder.language.lexer import MAX_FILE
from wherry.builder.ports import RunWorker
from wherry.builder.progress import Step
from wherry.distribution.download import Download, parse_url
from wherry.distribution.settings import Settings
from wherry.errors import DigestMismatch, InvalidArgument, NotFound
from wherry.linux.loopwatch import aside
from wherry.snapshots.adding import is_archive
from wherry.snapshots.overlay import Overlay
from wherry.snapshots.plaintar import write_index

_LIMIT = 64 << 30


class Sources:
    """What one build fetched.

    Args:
        overlay: where trees are staged.
        run_worker: the engine's.
        registries: their settings: certificates and proxies are for downloads too.
        may: which hosts may be reached, and which keys of theirs are known.
        agents: sockets of ssh agents, by id, for checkouts.
        secrets: content by id; `GIT_AUTH_TOKEN` and `GIT_AUTH_HEADER` are for checkouts.
    """

    def __init__(
        self,
        overlay: Overlay,
        run_worker: RunWorker,
        registries: Settings,
        may: Outside,
        *,
        agents: dict[str, str] | None = None,
        secrets: dict[str, bytes] | None = None,
    ) -> None:
        self._overlay = overlay
        self._run_worker = run_worker
        self._registries = registries
        self._may = may
        self._agents = agents or {}
        self._secrets = secrets or {}
        self._trees: list[str] = []
        self._given: list[Tree] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in (*self._trees, *(tree.path for tree in self._given if tree.path)):
            await asyncio.to_thread(self._overlay.abandon, path)

    def _stage(self) -> str:
        path = self._overlay.stage()
        self._trees.append(path)
        return path

    async def archive(self, source: AsyncIterator[bytes] | int) -> Tree:
        """Take an archive.

        Raises:
            HostileInput, StoreCorrupt: it is not what it should be.
        """
        if isinstance(source, int):
            tree = await contexts.unpack(self._overlay, self._run_worker, source)
        else:
            tree = await contexts.receive(self._overlay, self._run_worker, source)
        self._given.append(tree)
        return tree

    async def remote_context(self, address: str, dockerfile: str = "Dockerfile") -> Tree:
        """A context by its address: a repository, an archive, or a Dockerfile alone.

        Raises:
            InvalidArgument: it is no address.
            Unavailable, NotFound: it cannot be had.
        """
        if is_git(address):
            return await aside(self._without_ignored, await self._checkout(git_source(address), None), dockerfile)
        if not is_http(address):
            raise InvalidArgument(f"unable to prepare context: unsupported address {address!r}")
        op = http_source(address, directory=False)
        path = self._stage()
        await self._download(op, f"{path}/{op.name}", None)
        fd = os.open(f"{path}/{op.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if await aside(is_archive, fd):
                return await aside(self._without_ignored, await self.archive(fd), dockerfile)
        finally:
            os.close(fd)
        # a Dockerfile alone, under the name by which it is asked for
        os.rename(f"{path}/{op.name}", f"{path}/{os.path.basename(dockerfile)}")
        return await asyncio.to_thread(_indexed, path)

    def _without_ignored(self, tree: Tree, dockerfile: str) -> Tree:
        """Leave out what `.dockerignore` names; the Dockerfile can be read all the same."""
        for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
            try:
                patterns = read_ignorefile(tree.read(name, 4 << 20))
            except NotFound:
                continue
            matcher = Matcher(patterns)
            gone = [path for path in tree.view.entries if path != dockerfile and matcher.matches(path)]
            return tree.hiding(gone)
        return tree

    async def without_control_files(self, tree: Tree, dockerfile: str) -> tuple[Tree, bytes | None]:
        """Leave out `.dockerignore` and the Dockerfile where the former names them: the docker command sends them all
        the same.

        Returns:
            the tree, and the Dockerfile where it is no longer in it.
        """
        if ".dockerignore" not in tree.view.entries:
            return tree, None
        path = clean(dockerfile)
        try:
            gone, data = await aside(_control_files, tree, path)
        except NotFound:
            return tree, None  # a link to nothing
        if not gone:
            return tree, None
        await tree.ready()
        return tree.hiding(gone), data

    async def fetch(self, op: HttpSource | GitSource, step: Step) -> Tree:
        """Get a download or a checkout.

        Raises:
            DigestMismatch: it is not what the Dockerfile says.
            Unavailable, NotFound: it cannot be had.
        """
        if isinstance(op, GitSource):
            return await self._checkout(op, step)
        path = self._stage()
        await self._download(op, f"{path}/{op.name}", step)
        os.chmod(f"{path}/{op.name}", op.mode)
        return await asyncio.to_thread(_indexed, path)

    async def _checkout(self, op: GitSource, step: Step | None) -> Tree:
        path = self._stage()
        output = step.output if step is not None else lambda _stream, _data: None
        inner = await checkout(op, path, output, self._may, agents=self._agents, secrets=self._secrets)
        return await asyncio.to_thread(_indexed, inner)

    async def _download(self, op: HttpSource, path: str, step: Step | None) -> None:
        """Write what an address gives into a file; neither it nor a redirect leads to this machine or its link."""
        state, size = sha256(), 0
        async with Download(self._registries, parse_url(op.url), _LIMIT, self._may.reach) as download:
            modified = download.modified
            with open(path, "xb") as file:
                async for chunk in download.pieces():
                    size += len(chunk)
                    state.update(chunk)
                    file.write(chunk)
                    if step is not None:
                        step.status(op.url, size, download.size or size)
        found = f"sha256:{state.hexdigest()}"
        if op.checksum and found != op.checksum:
            raise DigestMismatch(f"digest mismatch {found}: {op.checksum}", url=op.url)
        try:
            moment = int(parsedate_to_datetime(modified).timestamp()) * 1_000_000_000 if modified else 0
        except ValueError:
            moment = 0
        os.utime(path, ns=(moment, moment))


def _control_files(tree: Tree, path: str) -> tuple[list[str], bytes | None]:
    """Which of `.dockerignore` and the Dockerfile the former names, and the latter's content then."""
    matcher = Matcher(read_ignorefile(tree.read(".dockerignore", 4 << 20)))
    gone = [name for name in (".dockerignore", path) if name in tree.view.entries and matcher.matches(name)]
    return gone, tree.read(path, MAX_FILE) if path in gone else None


def _indexed(path: str) -> Tree:
    """A directory that we wrote ourselves, with its index."""
    index = os.memfd_create("wherry-index", os.MFD_CLOEXEC)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            write_index(fd, index, {})
        finally:
            os.close(fd)
        os.lseek(index, 0, os.SEEK_SET)
        with os.fdopen(os.dup(index), "rb") as file:
            return Tree(path, contexts.read_index(file.read()))
    finally:
        os.close(index)
