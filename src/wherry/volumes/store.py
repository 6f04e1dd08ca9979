"""Volumes on disk: made whole or not at all, found by name, gone by one rename.

    volumes/<name>/volume.json      what it is: `Volume`
    volumes/<name>/_data            its content, as containers see it
    volumes/.new-<random>/          one that is being made: a rename makes it a volume
    volumes/.for-<container>-<hash> one that is being made with a container: `container.json` makes it a volume
    volumes/.gone-<random>          one that was removed, until it is deleted

Removed volumes are renamed beside the others and not into the data root's trash: people mount a disk on `volumes/`.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from wherry.errors import Conflict, NewerSchema, NotFound, StoreCorrupt, VolumeNotFound
from wherry.paths import Roots
from wherry.store.atomic import fsync_dir, write_atomic
from wherry.values import times
from wherry.volumes import names, options

RECORD_VERSION = 1
ANONYMOUS = "com.docker.volume.anonymous"
_NEW, _FOR, _GONE, FILL = ".new-", ".for-", ".gone-", "_fill"


class Volume(msgspec.Struct):
    """`volume.json`. Labels and options are None where none were given, as clients see them."""

    name: str
    created: str
    """RFC 3339, seconds."""
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    version: int = RECORD_VERSION

    @property
    def anonymous(self) -> bool:
        """Whether it was made without a name."""
        return ANONYMOUS in (self.labels or {})


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Volume)


class Volumes:
    """The volumes of one data root. What is in memory is what is on disk; methods that write block.

    Args:
        roots: where they lie.
        swept: told of every path that is to be deleted.
    """

    def __init__(self, roots: Roots, swept: Callable[[str], None]) -> None:
        self._roots = roots
        self._swept = swept
        self._known: dict[str, Volume] = {}
        # makers and removers run in threads
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Volume]:
        return iter(list(self._known.values()))

    def path(self, name: str) -> str:
        """The volume's directory, whether or not it exists."""
        return f"{self._roots.volumes}/{name}"

    def data(self, name: str) -> str:
        """The directory that holds its content."""
        return f"{self._roots.volumes}/{name}/_data"

    def find(self, name: str) -> Volume | None:
        """The volume of that name, or None."""
        return self._known.get(name)

    def get(self, name: str) -> Volume:
        """The volume of that name.

        Raises:
            VolumeNotFound: in dockerd's words.
        """
        found = self._known.get(name)
        if found is None:
            raise VolumeNotFound(f"get {name}: no such volume")
        return found

    # -- start-up

    def load(self, wanted: Callable[[str], set[str]]) -> list[str]:
        """Read every volume; finish or drop what was being made when the engine was killed.

        Args:
            wanted: the volumes that a container's record names; of none that is not there.

        Returns:
            What could not be read, for the log. Such a volume is left as it is, and its name is taken.

        Raises:
            NewerSchema: one was written by a newer version.
        """
        os.makedirs(self._roots.volumes, mode=0o710, exist_ok=True)
        wrong: list[str] = []
        for entry in sorted(os.listdir(self._roots.volumes)):
            path = f"{self._roots.volumes}/{entry}"
            if entry.startswith(_GONE):
                self._swept(path)
            elif entry.startswith(_NEW):
                self._discard(path)
            elif entry.startswith(_FOR):
                self._settle(entry, path, wanted)
        for entry in sorted(os.listdir(self._roots.volumes)):
            if entry.startswith(".") or not os.path.isdir(self.path(entry)):
                continue
            try:
                volume = self._read(entry)
            except StoreCorrupt as error:
                wrong.append(error.message)
                continue
            if os.path.isdir(f"{self.path(entry)}/{FILL}"):
                self._discard(f"{self.path(entry)}/{FILL}")
            self._known[entry] = volume
        return wrong

    def _settle(self, entry: str, path: str, wanted: Callable[[str], set[str]]) -> None:
        """A volume that was being made with a container: is there such a container?"""
        container = entry.removeprefix(_FOR).partition("-")[0]
        try:
            name = _DECODER.decode(_contents(f"{path}/volume.json")).name
        except (NotFound, msgspec.MsgspecError):
            name = ""
        if name and name in wanted(container):
            self.adopt_staged(container, [name])
        else:
            self._discard(path)

    def _read(self, name: str) -> Volume:
        path = f"{self.path(name)}/volume.json"
        try:
            with open(path, "rb") as file:
                volume = _DECODER.decode(file.read())
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreCorrupt(f"volume {name}: cannot read {path}: {error}", path=path) from None
        if volume.version > RECORD_VERSION:
            raise NewerSchema(f"volume {name} was written by a newer version (schema {volume.version})")
        if volume.name != name:
            raise StoreCorrupt(f"volume {name}: {path} is about another volume", path=path)
        return volume

    # -- making

    def create(
        self, name: str, labels: dict[str, str] | None = None, settings: dict[str, str] | None = None
    ) -> tuple[Volume, bool]:
        """Make a volume, or find the one that has the name.

        Args:
            name: empty for one that nobody names.
            settings: the driver's options.

        Returns:
            The volume, and whether it is new.

        Raises:
            InvalidArgument: the name or an option cannot be.
            OSError: the disk; nothing is left behind.
        """
        volume = self.described(name, labels, settings)
        with self._lock:
            found = self._known.get(volume.name)
            if found is not None:
                return found, False
            staged = f"{self._roots.volumes}/{_NEW}{secrets.token_hex(8)}"
            try:
                self._write(staged, volume)
                self._place(staged, volume)
            except BaseException:
                self._discard(staged)
                raise
        return volume, True

    @staticmethod
    def described(name: str, labels: dict[str, str] | None, settings: dict[str, str] | None) -> Volume:
        """A volume that is not made yet, checked.

        Raises:
            InvalidArgument: in dockerd's words.
        """
        labels = dict(labels or {})
        if name:
            names.check(name)
        else:
            name = names.anonymous()
            labels[ANONYMOUS] = ""
        options.check(name, settings or {})
        created = times.whole(time.time())
        return Volume(name, created, labels or None, dict(settings) if settings else None)

    def begin(
        self, name: str, labels: dict[str, str] | None = None, settings: dict[str, str] | None = None
    ) -> tuple[Volume, str]:
        """Begin a volume that gets its content before anybody sees it.

        Returns:
            The volume, and its directory until `finish` or `abandon`.

        Raises:
            InvalidArgument: the name or an option cannot be.
            Conflict: there is such a volume.
            OSError: the disk; nothing is left behind.
        """
        volume = self.described(name, labels, settings)
        if volume.name in self._known:
            raise Conflict(f"a volume named {volume.name} already exists")
        staged = f"{self._roots.volumes}/{_NEW}{secrets.token_hex(8)}"
        try:
            self._write(staged, volume)
        except BaseException:
            self._discard(staged)
            raise
        return volume, staged

    def finish(self, volume: Volume, staged: str) -> None:
        """What was begun is a volume now.

        Raises:
            Conflict: somebody else has made one of that name meanwhile; what was begun is gone.
        """
        with self._lock:
            if volume.name in self._known or os.path.lexists(self.path(volume.name)):
                self._discard(staged)
                raise Conflict(f"a volume named {volume.name} already exists")
            self._place(staged, volume)

    def abandon(self, staged: str) -> None:
        """What was begun comes to nothing."""
        self._discard(staged)

    def stage(self, container: str, volume: Volume) -> str:
        """Make a volume that becomes one only with its container; returns its directory.

        Raises:
            OSError: the disk; nothing is left behind.
        """
        staged = self._staged(container, volume.name)
        try:
            self._write(staged, volume)
        except BaseException:
            self._discard(staged)
            raise
        return staged

    def adopt_staged(self, container: str, staged: list[str]) -> list[Volume]:
        """The container is there: its staged volumes are volumes now. One whose name was taken meanwhile is dropped.

        Returns:
            Those that are new.

        Raises:
            OSError: the disk; all are staged again.
        """
        made: list[Volume] = []
        with self._lock:
            try:
                for name in staged:
                    path = self._staged(container, name)
                    if name in self._known or os.path.lexists(self.path(name)):
                        self._discard(path)
                        continue
                    volume = _DECODER.decode(_contents(f"{path}/volume.json"))
                    self._place(path, volume)
                    made.append(volume)
            except BaseException:
                for volume in made:
                    del self._known[volume.name]
                    os.rename(self.path(volume.name), self._staged(container, volume.name))
                raise
        return made

    def drop_staged(self, container: str, staged: list[str]) -> None:
        """The container came to nothing, and so do its volumes."""
        for name in staged:
            self._discard(self._staged(container, name))

    def _staged(self, container: str, name: str) -> str:
        # both in full would be longer than a file name may be
        return f"{self._roots.volumes}/{_FOR}{container}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    def _write(self, directory: str, volume: Volume) -> None:
        # the directories above the content can be entered by their owner only: other users of the machine reach no
        # setuid program in a volume (CVE-2021-41091)
        os.mkdir(directory, 0o710)
        os.mkdir(f"{directory}/_data", 0o755)
        os.chmod(f"{directory}/_data", 0o755)
        write_atomic(f"{directory}/volume.json", _ENCODER.encode(volume))

    def _place(self, staged: str, volume: Volume) -> None:
        os.rename(staged, self.path(volume.name))
        try:
            fsync_dir(self._roots.volumes)
        except BaseException:
            # who is told that it failed must not find it there
            os.rename(self.path(volume.name), staged)
            raise
        self._known[volume.name] = volume

    # -- removing

    def remove(self, name: str) -> None:
        """Take a volume away; whether something uses it was asked before.

        Raises:
            VolumeNotFound: it is not there.
            OSError: the disk; the volume stays.
        """
        with self._lock:
            volume = self.get(name)
            target = f"{self._roots.volumes}/{_GONE}{secrets.token_hex(8)}"
            try:
                os.rename(self.path(name), target)
            except FileNotFoundError:
                # somebody took its directory away by hand: then it is gone
                del self._known[volume.name]
                return
            del self._known[volume.name]
            fsync_dir(self._roots.volumes)
        self._swept(target)

    def _discard(self, path: str) -> None:
        target = f"{self._roots.volumes}/{_GONE}{secrets.token_hex(8)}"
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return
        self._swept(target)


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise NotFound(f"{path} is gone") from None
