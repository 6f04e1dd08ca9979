"""Contexts that clients send: only what changed since the last time, into a copy that is kept here.

    contexts/<key>/<slot>/tree/     the copy
    contexts/<key>/<slot>/index     what is in it: [path, stamp, fields of treeview.Entry], a line each

A client tells what its directory holds (names, sizes, times, a stamp of inode and change time); the engine answers
which files it wants. An unchanged file is one of the same size, time and stamp. Files are never written in place. While
a build reads a copy nobody changes it: another build of the same directory shares it where nothing has changed, and has
a copy of its own otherwise. A copy without an index was being changed when the engine died: it is filled anew.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec

from wherry.builder.contexts.context import Tree
from wherry.errors import HostileInput, InvalidArgument, NotFound
from wherry.linux.loopwatch import aside
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from wherry.snapshots.remove import remove_tree
from wherry.snapshots.treeview import DIRECTORY, FILE, LINK, Entry, IndexView
from wherry.store.atomic import write_atomic

Stat = tuple[str, str, int, int, int, str, str]
"""Path, kind (`f`, `d`, `l`), mode, size, mtime in nanoseconds, stamp, a link's target."""

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_LINE = msgspec.json.Decoder(tuple[str, str, str, int, int, int, int, int, str, str, str])
_ENCODE = msgspec.json.Encoder().encode
_MAX_ENTRIES = 4_000_000
_MAX_PATH = 4095
_FORGOTTEN = 900.0
DEFAULT_LIMIT = 10 << 30


@dataclass(slots=True)
class _Slot:
    """One copy of a directory."""

    path: str
    entries: dict[str, Entry] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    readers: int = 0
    changing: bool = False
    size: int = 0
    used_at: float = 0.0


@dataclass(slots=True)
class Session:
    """A client's directory on its way, or ready.

    Attributes:
        id: what the client calls it by.
        wanted: places in the client's list of the files that are to be sent, in order.
    """

    id: str
    slot: _Slot
    stats: list[Stat]
    wanted: list[int]
    begun: float
    ready: bool = False
    tree: Tree | None = None


class SentContexts:
    """The copies of one engine.

    Args:
        directory: where they lie.
        limit: bytes that all may take; those unused for the longest time go.
    """

    def __init__(self, directory: str, limit: int = DEFAULT_LIMIT) -> None:
        self._directory = directory
        self.limit = limit
        self._slots: dict[str, list[_Slot]] = {}
        self._sessions: dict[str, Session] = {}
        self._archives: dict[str, tuple[Tree, Callable[[str], None]]] = {}
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for key in os.listdir(directory):
            for number in sorted(os.listdir(f"{directory}/{key}")):
                slot = _Slot(f"{directory}/{key}/{number}")
                slot.used_at = os.stat(slot.path).st_mtime
                self._slots.setdefault(key, []).append(slot)
                self._load(slot)

    async def begin(self, name: str, stats: list[Stat]) -> Session:
        """Compare a directory with the copy that is here, and bring that up to it as far as can be.

        Args:
            name: what the client calls the directory; the same for the same.
            stats: all that is in it, parents before what is in them.

        Raises:
            InvalidArgument, HostileInput: a path that is none.
        """
        await aside(check, stats)
        self._expire()
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        slot = await self._choose(key, stats)
        session = Session(secrets.token_hex(16), slot, stats, [], time.monotonic())
        self._sessions[session.id] = session
        if slot.readers == 0:
            slot.changing = True
            try:
                await asyncio.to_thread(_compare, slot, session)
            except BaseException:
                slot.changing = False
                self._sessions.pop(session.id, None)
                raise
            if not session.wanted:
                await self._complete(session)
        else:
            slot.readers += 1
            session.ready = True
            session.tree = Tree(f"{slot.path}/tree", IndexView(slot.entries))
        return session

    async def receive(self, id_: str, chunks: AsyncIterator[bytes]) -> None:
        """Take the files that were wanted: their contents, one after the other.

        Raises:
            NotFound: no such session.
            InvalidArgument: there was more, or less.
        """
        session = self._session(id_)
        if session.ready:
            return
        writer = _Incoming(session)
        try:
            async for chunk in chunks:
                await asyncio.to_thread(writer.take, chunk)
            await asyncio.to_thread(writer.finish)
        finally:
            writer.close()
        await self._complete(session)

    def tree(self, id_: str) -> Tree:
        """The directory of a session, complete.

        Raises:
            NotFound: no such session.
            InvalidArgument: files are still missing.
        """
        if id_ in self._archives:
            return self._archives[id_][0]
        session = self._session(id_)
        if session.tree is None:
            raise InvalidArgument("the build context is not complete")
        return session.tree

    def adopt(self, tree: Tree, discard: Callable[[str], None]) -> str:
        """Take a tree that came as an archive; it goes with its build. Returns what it is called by."""
        id_ = secrets.token_hex(16)
        self._archives[id_] = (tree, discard)
        return id_

    async def release(self, id_: str) -> None:
        """The build is over; keeps to the limit."""
        archive = self._archives.pop(id_, None)
        if archive is not None:
            await asyncio.to_thread(archive[1], archive[0].path)
            return
        session = self._sessions.pop(id_, None)
        if session is None:
            return
        slot = session.slot
        if session.ready:
            slot.readers -= 1
        else:
            slot.changing = False
        slot.used_at = time.time()
        await asyncio.to_thread(self._shrink, self.limit)

    def size(self) -> int:
        """Bytes of all copies."""
        return sum(slot.size for slots in self._slots.values() for slot in slots)

    async def prune(self) -> int:
        """Remove what no build reads; returns the bytes."""
        before = self.size()
        await asyncio.to_thread(self._shrink, 0)
        return before - self.size()

    # -- inner

    def _session(self, id_: str) -> Session:
        session = self._sessions.get(id_)
        if session is None:
            raise NotFound(f"no build context {id_}")
        return session

    def _expire(self) -> None:
        now = time.monotonic()
        for id_, session in list(self._sessions.items()):
            if not session.ready and now - session.begun > _FORGOTTEN:
                session.slot.changing = False
                del self._sessions[id_]

    async def _choose(self, key: str, stats: list[Stat]) -> _Slot:
        for slot in [slot for slot in self._slots.get(key, ()) if slot.readers and not slot.changing]:
            slot.readers += 1  # nobody changes it while it is compared
            try:
                same = await aside(_same, slot, stats)
            finally:
                slot.readers -= 1
            if same and slot.readers:
                return slot
        slots = self._slots.setdefault(key, [])
        for slot in slots:
            if not slot.readers and not slot.changing:
                return slot
        slot = _Slot(f"{self._directory}/{key}/{len(slots)}")
        os.makedirs(f"{slot.path}/tree", mode=0o700, exist_ok=True)
        slots.append(slot)
        return slot

    async def _complete(self, session: Session) -> None:
        slot = session.slot
        await asyncio.to_thread(_settle, slot, session)
        slot.changing = False
        slot.readers += 1
        session.ready = True
        session.tree = Tree(f"{slot.path}/tree", IndexView(slot.entries))

    def _load(self, slot: _Slot) -> None:
        try:
            with open(f"{slot.path}/index", "rb") as file:
                for line in file:
                    path, stamp, kind, mode, uid, gid, size, mtime, link, digest, extra = _LINE.decode(line)
                    slot.entries[path] = Entry(kind, mode, uid, gid, size, mtime, link, digest, extra)
                    slot.stamps[path] = stamp
                    slot.size += size
        except (FileNotFoundError, msgspec.MsgspecError):
            slot.entries, slot.stamps, slot.size = {}, {}, 0

    def _shrink(self, limit: int) -> None:
        every = [(key, slot) for key, slots in self._slots.items() for slot in slots]
        total = sum(slot.size for _, slot in every)
        for key, slot in sorted(every, key=lambda pair: pair[1].used_at):
            if total <= limit:
                return
            if slot.readers or slot.changing:
                continue
            total -= slot.size
            self._slots[key].remove(slot)
            shutil.rmtree(slot.path, ignore_errors=True)
            if not self._slots[key]:
                del self._slots[key]
                shutil.rmtree(f"{self._directory}/{key}", ignore_errors=True)


def check(stats: list[Stat]) -> None:
    """Judge what a client says of its directory.

    Raises:
        InvalidArgument, HostileInput: a path that leads out, stands twice, or has no parent in the list.
    """
    if len(stats) > _MAX_ENTRIES:
        raise HostileInput(f"the build context has more than {_MAX_ENTRIES} files")
    seen: dict[str, str] = {"": DIRECTORY}
    for path, kind, mode, size, _mtime, _stamp, link in stats:
        parent, _, name = path.rpartition("/")
        if name in ("", ".", "..") or "\0" in path or len(path) > _MAX_PATH or path.startswith("/"):
            raise HostileInput(f"the build context has an impossible path {path[:64]!r}")
        if path in seen or seen.get(parent) != DIRECTORY:
            raise HostileInput(f"the build context has {path[:64]!r} twice, or in no directory")
        if kind not in (FILE, DIRECTORY, LINK) or not 0 <= size < 1 << 50 or not 0 <= mode <= 0o7777:
            raise InvalidArgument(f"the build context has a file {path[:64]!r} of an unknown kind")
        if kind == LINK and (not link or "\0" in link):
            raise HostileInput(f"the build context has a link {path[:64]!r} to nothing")
        seen[path] = kind


def _same(slot: _Slot, stats: list[Stat]) -> bool:
    if len(stats) != len(slot.entries):
        return False
    return all(_unchanged(slot, stat) and slot.entries[stat[0]].mode == stat[2] for stat in stats)


def _unchanged(slot: _Slot, stat: Stat) -> bool:
    path, kind, _mode, size, mtime, stamp, link = stat
    known = slot.entries.get(path)
    if known is None or known.kind != kind:
        return False
    if kind == DIRECTORY:
        return True
    if kind == LINK:
        return known.link == link
    return (known.size, known.mtime_ns, slot.stamps.get(path)) == (size, mtime, stamp)


def _compare(slot: _Slot, session: Session) -> None:
    """Take away what is gone, make directories and links, and say which files are wanted."""
    # from now on the index would lie; without one, the copy is filled anew after a crash
    try:
        os.unlink(f"{slot.path}/index")
    except FileNotFoundError:
        slot.entries, slot.stamps = {}, {}
        shutil.rmtree(f"{slot.path}/tree", ignore_errors=True)
        os.makedirs(f"{slot.path}/tree", mode=0o700, exist_ok=True)
    top = os.open(f"{slot.path}/tree", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kept = {stat[0]: stat[1] for stat in session.stats}
        for path, entry in list(slot.entries.items()):
            if kept.get(path) != entry.kind or (entry.kind == LINK and path in kept):
                _remove(top, path)
                del slot.entries[path]
                slot.stamps.pop(path, None)
        for index, stat in enumerate(session.stats):
            path, kind, mode, _size, mtime, _stamp, link = stat
            known = slot.entries.get(path)
            if kind == DIRECTORY:
                if known is None:
                    above, name = _above(top, path)
                    os.mkdir(name, 0o700, dir_fd=above)
                    os.close(above)
                slot.entries[path] = Entry(DIRECTORY, mode, mtime_ns=mtime)
            elif kind == LINK:
                above, name = _above(top, path)
                os.symlink(link, name, dir_fd=above)
                os.utime(name, ns=(mtime, mtime), dir_fd=above, follow_symlinks=False)
                os.close(above)
                slot.entries[path] = Entry(LINK, 0o777, mtime_ns=mtime, link=link)
            elif _unchanged(slot, stat) and known is not None:
                if known.mode != mode:
                    above, name = _above(top, path)
                    os.chmod(name, mode, dir_fd=above)
                    os.close(above)
                    known.mode = mode
            else:
                session.wanted.append(index)
    finally:
        os.close(top)


def _remove(top: int, path: str) -> None:
    try:
        above, name = _above(top, path)
    except OSError:
        return  # its directory went before it
    try:
        remove_tree(above, name)
    finally:
        os.close(above)


def _above(top: int, path: str) -> tuple[int, str]:
    parent, _, name = path.rpartition("/")
    return openat2(top, parent or ".", os.O_RDONLY | os.O_DIRECTORY, _BENEATH), name


def _settle(slot: _Slot, session: Session) -> None:
    """Everything is here: directories get their modes and times, and the index is written."""
    top = os.open(f"{slot.path}/tree", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, kind, mode, _size, mtime, _stamp, _link in reversed(session.stats):
            if kind == DIRECTORY:
                fd = openat2(top, path, os.O_RDONLY | os.O_DIRECTORY, _BENEATH)
                try:
                    found = os.fstat(fd)
                    if found.st_mode & 0o7777 != mode:
                        os.fchmod(fd, mode)
                    if found.st_mtime_ns != mtime:
                        os.utime(fd, ns=(mtime, mtime))
                finally:
                    os.close(fd)
    finally:
        os.close(top)
    # in the order of the client's list: parents first, as everybody expects of an index
    slot.entries = {stat[0]: slot.entries[stat[0]] for stat in session.stats}
    slot.stamps = {stat[0]: stat[5] for stat in session.stats}
    slot.size = sum(entry.size for entry in slot.entries.values())
    slot.used_at = time.time()
    lines = [_ENCODE([path, slot.stamps[path], *entry.to_json()]) for path, entry in slot.entries.items()]
    write_atomic(f"{slot.path}/index", b"\n".join(lines) + b"\n" if lines else b"", durable=False)


class _Incoming:
    """Writes the files that were wanted, one behind the other."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._slot = session.slot
        self._top = os.open(f"{self._slot.path}/tree", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._temporary = f"{self._slot.path}/incoming"
        self._next = 0
        self._fd = -1
        self._left = 0
        self._hash = hashlib.sha256()
        self._begin()

    def take(self, data: bytes) -> None:
        """Take the next piece."""
        view = memoryview(data)
        while view:
            if self._fd < 0:
                raise InvalidArgument("the build context is longer than it was said to be")
            piece = view[: self._left]
            view = view[len(piece) :]
            self._hash.update(piece)
            self._left -= len(piece)
            while piece:
                piece = piece[os.write(self._fd, piece) :]
            if not self._left:
                self._end()

    def finish(self) -> None:
        """Nothing more comes."""
        if self._fd >= 0:
            raise InvalidArgument("the build context is shorter than it was said to be")

    def close(self) -> None:
        """Let go of everything."""
        if self._fd >= 0:
            os.close(self._fd)
            os.unlink(self._temporary)
        os.close(self._top)

    def _begin(self) -> None:
        """Open the next file; empty ones are done at once."""
        while self._next < len(self._session.wanted):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._temporary, flags, 0o600)
            self._left = self._stat[3]
            self._hash = hashlib.sha256()
            if self._left:
                return
            self._place()
            self._next += 1

    @property
    def _stat(self) -> Stat:
        return self._session.stats[self._session.wanted[self._next]]

    def _end(self) -> None:
        self._place()
        self._next += 1
        self._begin()

    def _place(self) -> None:
        path, _kind, mode, size, mtime, stamp, _link = self._stat
        os.fchmod(self._fd, mode)
        os.utime(self._fd, ns=(mtime, mtime))
        os.close(self._fd)
        self._fd = -1
        above, name = _above(self._top, path)
        try:
            os.rename(self._temporary, name, dst_dir_fd=above)
        finally:
            os.close(above)
        self._slot.entries[path] = Entry(FILE, mode, size=size, mtime_ns=mtime, digest=self._hash.hexdigest())
        self._slot.stamps[path] = stamp
