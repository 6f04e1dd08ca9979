"""Trees of files that somebody gave: a build context, a checkout, a download. Each with an index of what is in it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

from wherry.builder.contexts import inmemory
from wherry.builder.ports import RunWorker
from wherry.errors import HostileInput, KernelError, NotFound
from wherry.linux import inodes
from wherry.linux.loopwatch import aside
from wherry.linux.openat import open_in_root
from wherry.snapshots import digesting, selecting
from wherry.snapshots.overlay import Overlay
from wherry.snapshots.treeview import Entry, Excluded, IndexView, resolve

SMALL = 1 << 20
"""Bytes of an archive that is kept in memory."""
_INDEX_LIMIT = 1 << 30
_FEW = 100
_LINE = msgspec.json.Decoder(tuple[str, str, int, int, int, int, int, str, str, str])


class Tree:
    """A directory and its index.

    Args:
        path: the directory; nothing changes in it while this is used.
        view: its index.
    """

    def __init__(self, path: str, view: IndexView) -> None:
        self.path = path
        self.view = view
        self._digests: dict[tuple[tuple[str, ...], tuple[tuple[str, bool], ...], bool], str] = {}

    def digest(self, sources: Sequence[str], exclude: Sequence[tuple[str, bool]], *, exact: bool = False) -> str:
        """Hash of all that these sources give: names, modes, contents; never a time. `exact`: they are no patterns.

        Raises:
            NotFound: one of them is not there.
        """
        key = tuple(sources), tuple(exclude), exact
        found = self._digests.get(key)
        if found is None:
            found = self._digests[key] = digesting.digest(self.view, sources, Excluded(exclude), exact=exact)
        return found

    async def digested(
        self, sources: Sequence[str], exclude: Sequence[tuple[str, bool]], *, exact: bool = False
    ) -> str:
        """`digest`, beside the event loop where it is not known yet and much is to be looked at."""
        if len(self.view.entries) > _FEW and (tuple(sources), tuple(exclude), exact) not in self._digests:
            return await aside(self.digest, sources, exclude, exact=exact)
        return self.digest(sources, exclude, exact=exact)

    def has(self, pattern: str) -> bool:
        """Whether something fits."""
        try:
            return bool(selecting.select(self.view, pattern))
        except NotFound:
            return False

    def read(self, path: str, limit: int) -> bytes:
        """Read a file of the tree; links are followed inside.

        Raises:
            NotFound: there is no such file.
            HostileInput: it is no file, or larger than `limit` bytes.
        """
        real = resolve(self.view, path)
        entry = self.view.get(real)
        if entry is None or entry.kind != "f":
            raise HostileInput(f"{path} is not a regular file", path=path)
        if entry.size > limit:
            raise HostileInput(f"{path} is larger than {limit} bytes", path=path)
        top = self.open()
        try:
            held = open_in_root(top, real, inodes.HOLD)
        except KernelError:
            raise NotFound(f"{path}: file does not exist", path=path) from None
        finally:
            os.close(top)
        with os.fdopen(inodes.read_held(held, path), "rb") as file:
            return file.read(limit)

    async def ready(self) -> None:
        """See to it that the files are on the disk: before `path` and `open`, and before steps use them."""

    def open(self) -> int:
        """A descriptor of the directory; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def hiding(self, paths: Iterable[str]) -> "Tree":
        """The same tree as if these were not there: they are found by no pattern and no digest; whole directories are
        taken off the disk, so that no step that mounts the tree sees them."""
        entries = dict(self.view.entries)
        top = self.open()
        try:
            for path in sorted(paths, key=lambda text: -text.count("/")):
                entry = entries.get(path)
                if entry is None:
                    continue
                parent, _, name = path.rpartition("/")
                above = open_in_root(top, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if entry.kind == "d":
                        os.rmdir(name, dir_fd=above)
                    else:
                        os.unlink(name, dir_fd=above)
                except OSError:
                    continue  # a directory that holds what was taken in again
                finally:
                    os.close(above)
                del entries[path]
        finally:
            os.close(top)
        return Tree(self.path, IndexView(entries))


def read_index(data: bytes) -> IndexView:
    """Read an index as `snapshots.plaintar.write_index` writes it."""
    entries: dict[str, Entry] = {}
    for line in data.splitlines():
        path, kind, mode, uid, gid, size, mtime_ns, link, digest, extra = _LINE.decode(line)
        entries[path] = Entry(kind, mode, uid, gid, size, mtime_ns, link, digest, extra)
    return IndexView(entries)


def _read_index_file(fd: int) -> IndexView:
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb") as file:
        return read_index(file.read(_INDEX_LIMIT))


async def receive(overlay: Overlay, run_worker: RunWorker, chunks: AsyncIterator[bytes]) -> Tree:
    """Take a context that comes as an archive. One that is small and plain stays in memory until a step needs it.

    Raises:
        HostileInput, StoreCorrupt: it is not what it should be; nothing is left of it.
    """
    head = bytearray()
    async for chunk in chunks:
        head += chunk
        if len(head) > SMALL:
            return await unpack(overlay, run_worker, _again(bytes(head), chunks))
    found = await aside(inmemory.read, bytes(head))
    if found is None:
        return await unpack(overlay, run_worker, _again(bytes(head), chunks))
    return SmallTree(bytes(head), *found, overlay, run_worker)


async def _again(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in rest:
        yield chunk


class SmallTree(Tree):
    """A context in memory; written to the disk, by a confined worker, when somebody asks for files."""

    def __init__(
        self,
        data: bytes,
        entries: dict[str, Entry],
        contents: dict[str, bytes],
        overlay: Overlay,
        run_worker: RunWorker,
    ) -> None:
        super().__init__("", IndexView(entries))
        self._data = data
        self._contents = contents
        self._overlay = overlay
        self._run_worker = run_worker
        self._writing = asyncio.Lock()

    async def ready(self) -> None:
        async with self._writing:
            if not self.path:
                self.path = (await unpack(self._overlay, self._run_worker, _one(self._data))).path

    def read(self, path: str, limit: int) -> bytes:
        content = self._contents.get(resolve(self.view, path))
        if content is None or len(content) > limit:
            raise HostileInput(f"{path} is not a regular file, or larger than {limit} bytes", path=path)
        return content


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def unpack(overlay: Overlay, run_worker: RunWorker, source: "AsyncIterator[bytes] | int") -> Tree:
    """Unpack a context that came as an archive; whoever called removes it (`Overlay.abandon`).

    Args:
        source: the archive, plain or compressed: chunks, or a descriptor.

    Raises:
        HostileInput, StoreCorrupt: it is not what it should be; nothing is left of it.
    """
    staging = overlay.stage()
    try:
        index = os.memfd_create("wherry-index", os.MFD_CLOEXEC)
        try:
            target = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if isinstance(source, int):
                    await run_worker("context", {}, {"source": source, "target": target, "index": index})
                else:
                    await _feed(run_worker, source, target, index)
            finally:
                os.close(target)
            view = await aside(_read_index_file, index)
        finally:
            os.close(index)
    except BaseException:
        overlay.abandon(staging)
        raise
    return Tree(staging, view)


async def _feed(run_worker: RunWorker, chunks: AsyncIterator[bytes], target: int, index: int) -> None:
    """Let a worker read what arrives."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    worker = asyncio.ensure_future(run_worker("context", {}, {"source": reading, "target": target, "index": index}))
    try:
        transport, protocol = await loop.connect_write_pipe(_Writer, os.fdopen(writing, "wb", 0))
        try:
            async for chunk in chunks:
                transport.write(chunk)
                await protocol.drain()
                if worker.done() or protocol.broken:
                    break
            # the worker may have found the archive's end, or an error: the rest is read so that the answer is seen
            async for _ in chunks:
                continue
        finally:
            transport.close()
        await worker
    finally:
        os.close(reading)
        if not worker.done():
            worker.cancel()
            await asyncio.wait([worker])


class _Writer(asyncio.BaseProtocol):
    """The write end of a pipe, with back pressure."""

    def __init__(self) -> None:
        self.broken = False
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.broken = True
        self._room.set()

    async def drain(self) -> None:
        await self._room.wait()
