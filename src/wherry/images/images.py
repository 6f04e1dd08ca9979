"""The images of an engine: one object, one method for each thing that can be done with them.

Each verb lives in a module of its own; this class only holds what they work on. All methods are for the event loop's
thread, and none blocks it for long.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.settings import Settings
from wherry.errors import WherryError
from wherry.images import (
    bootstrap,
    commit,
    copy,
    history,
    layers,
    load,
    pull,
    push,
    remove,
    resolve,
    save,
    sweep,
    tag,
)
from wherry.images import import_ as importing
from wherry.images import list as listing
from wherry.images.check import Check
from wherry.images.feed import Source
from wherry.images.fetch import Gates, Tell, fetch_blob
from wherry.images.list import Filters
from wherry.images.model import Image
from wherry.images.remove import InUse
from wherry.images.repair import PullAgain, repair
from wherry.images.stores import Compare, Progress, Stores, Unpack, WriteLayer
from wherry.linux.background import background
from wherry.oci import platform as platforms
from wherry.oci.image import Descriptor
from wherry.oci.platform import Platform
from wherry.oci.reference import Reference
from wherry.paths import Roots
from wherry.snapshots.overlay import Overlay
from wherry.store.blobs import Blobs
from wherry.store.database import Database
from wherry.store.uploads import Uploads
from wherry.wire.copies import Missing, Offer

if TYPE_CHECKING:
    from wherry.distribution.source import Source as Origin

Entries = list[dict[str, Any]]
Report = list[dict[str, str]]
Ids = list[str]
Selection = list[Image]
Missings = list[Missing]

# spellings that are remembered: callers may write an id in 64 ways
_RESOLVED_LIMIT = 4096
_EMPTY_SECONDS = 3600.0

_log = logging.getLogger(__name__)


class Images:
    """Everything about images.

    Args:
        roots: where things lie.
        blobs: the blob store.
        database: an open database.
        overlay: the snapshots.
        unpack: how a layer is unpacked (`stores.Unpack`).
        write_layer: how a directory becomes a layer (`stores.WriteLayer`).
        compare: how a layer's tree is compared with its archive (`stores.Compare`).
        layers_in_use: returns the chain ids that containers stand on; those are never removed.
        layers_mounted: returns those of them that are mounted; those are not even swapped for whole ones.
    """

    def __init__(
        self,
        roots: Roots,
        blobs: Blobs,
        database: Database,
        overlay: Overlay,
        unpack: Unpack,
        write_layer: WriteLayer,
        compare: Compare,
        layers_in_use: Callable[[], Iterable[str]] = tuple,
        layers_mounted: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._stores = Stores(
            roots, blobs, database, overlay, unpack, write_layer, compare, layers_in_use, layers_mounted
        )
        self._resolved: dict[str, Image] = {}
        self._at = -1
        self._emptying: asyncio.Task[None] | None = None
        self._gates = Gates()
        self._uploads = push.AT_ONCE
        self._places = Uploads(database)
        self._compressed: push.Compressed = {}

    def limit(self, downloads: int, uploads: int) -> None:
        """Set how many layers are fetched and sent at a time; before the first pull."""
        self._gates = Gates(downloads)
        self._uploads = uploads

    @property
    def stores(self) -> Stores:
        """The stores, for who makes images in another way: the builder."""
        return self._stores

    # -- finding

    def resolve(self, name_or_id: str) -> Image:
        """Return the image of a name, an id, or the beginning of one. From memory.

        Raises:
            InvalidReference, ImageNotFound, AmbiguousPrefix: Docker's words.
        """
        version = self._stores.records.version
        if version != self._at:
            self._resolved.clear()
            self._at = version
        image = self._resolved.get(name_or_id)
        if image is None:
            image = resolve.resolve(self._stores, name_or_id)
            if len(self._resolved) >= _RESOLVED_LIMIT:
                self._resolved.clear()
            self._resolved[name_or_id] = image
        return image

    def select(self, filters: Filters | None = None, all: bool = False) -> "Selection":  # noqa: A002
        """Return the images that fit, newest first."""
        return listing.select(self._stores, filters, everything=all)

    def history(self, name_or_id: str) -> Entries:
        """Return Docker's history entries, newest step first."""
        return history.history(self.resolve(name_or_id))

    def shared_sizes(self) -> dict[str, int]:
        """By image id: bytes of its layers that other images have too."""
        return listing.shared_sizes(self._stores)

    async def local_manifest(self, image: Image) -> dict[str, Any]:
        """Docker's entry for the manifest of an image: `images --tree` shows it."""
        return await asyncio.to_thread(listing.manifest_entry, self._stores, image)

    @property
    def count(self) -> int:
        """How many images are stored."""
        return len(self._stores.records.by_id)

    # -- changing

    async def tag(self, source: str, repo: str, tag_: str = "") -> Reference:
        """Let one more name point at an image."""
        return await tag.tag(self._stores, source, repo, tag_)

    async def remove(self, name_or_id: str, force: bool = False, noprune: bool = False, *, in_use: InUse) -> Report:
        """Remove a name or an image; `in_use(image id)` gives (container id, whether it runs) of its containers."""
        report = await remove.remove(self._stores, name_or_id, in_use=in_use, force=force, prune=not noprune)
        self._empty_trash_later()
        return report

    async def prune(self, filters: Filters | None = None, *, in_use: InUse) -> dict[str, Any]:
        """Remove dangling images, or with `dangling=false` all that no container uses; Docker's answer."""
        report, freed = await remove.prune(self._stores, listing.prunable(self._stores, filters), in_use=in_use)
        self._empty_trash_later()
        return {"ImagesDeleted": report or None, "SpaceReclaimed": freed}

    async def load(self, source: Source, progress: Progress, quiet: bool = False, platform: str | None = None) -> Ids:
        """Load an archive (chunks, or a descriptor); returns the ids."""
        wanted = platforms.parse(platform) if platform else None
        return await load.load(self._stores, source, progress, quiet=quiet, platform=wanted)

    async def import_(
        self,
        source: Source,
        repo: str = "",
        tag_: str = "",
        changes: Iterable[str] = (),
        message: str = "",
        platform: str | None = None,
        place: str = "-",
    ) -> str:
        """Make an image from a root file system archive; returns its id. Without a message it has Docker's, with the
        place that it came from."""
        name = tag.target(repo, tag_) if repo else None
        runs_on = platforms.parse(platform) if platform else None
        return await importing.import_(
            self._stores, source, name, edits=changes, message=message or f"Imported from {place}", platform=runs_on
        )

    async def commit(self, base: str, upper_fd: int, what: commit.Commit) -> str:
        """Make an image of what a container changed in its upper directory; `base` is the id of its image."""
        return await commit.commit(self._stores, self.resolve(base), upper_fd, what)

    def save(self, names: Iterable[str]) -> AsyncGenerator[bytes, None]:
        """Return an archive of images as Docker 25 and later write it; names are resolved at once."""
        return save.save(self._stores, list(names))

    async def bootstrap(self, name: str, progress: Progress) -> str:
        """Make a base image from the machine's packages; returns its id."""
        return await bootstrap.bootstrap(self._stores, name, progress)

    # -- registries

    async def pull(
        self,
        settings: Settings,
        name: Reference,
        progress: Progress,
        credential: Credential = NOBODY,
        platform: str | None = None,
    ) -> list[pull.Pulled]:
        """Pull an image; one without tag and digest means all tags of its repository."""
        wanted = platforms.parse(platform) if platform else None
        if not name.tag and not name.digest:
            return await pull.pull_all(self._stores, settings, self._gates, name, credential, progress, platform=wanted)
        found = await pull.pull(self._stores, settings, self._gates, name, credential, progress, platform=wanted)
        return [found]

    async def push(
        self,
        settings: Settings,
        name: Reference,
        progress: Progress,
        credential: Credential = NOBODY,
        platform: Platform | None = None,
    ) -> list[tuple[Reference, str]]:
        """Push a tag, or all tags of a repository, of one platform or of all; returns names and manifest digests."""
        return await push.push(
            self._stores,
            settings,
            name,
            credential,
            progress,
            platform=platform,
            places=self._places,
            compressed=self._compressed,
            at_once=self._uploads,
        )

    async def fetch_blob(self, source: "Origin", descriptor: Descriptor, tell: "Tell") -> None:
        """Bring one blob from a registry; arguments and errors are those of `fetch.fetch_blob`."""
        await fetch_blob(self._stores, source, self._gates, descriptor, tell)

    @property
    def places(self) -> Uploads:
        """Where uploads are that broke off."""
        return self._places

    # -- other engines

    def offer(self, name_or_id: str) -> Offer:
        """Describe an image for another engine that it shall be copied to."""
        return copy.offer(self._stores, name_or_id)

    async def missing(self, offered: Offer) -> Missings:
        """Say what of another engine's offer is not here."""
        return await copy.missing(self._stores, offered)

    def read_blob(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Return a blob from a byte on."""
        return copy.read(self._stores, digest, offset)

    async def receive_blob(self, digest: str, size: int, offset: int, chunks: AsyncIterator[bytes]) -> None:
        """Take a blob, or the rest of one, from another engine."""
        await copy.receive(self._stores, self._gates, digest, size, offset, chunks)

    async def assemble(self, offered: Offer, progress: Progress) -> str:
        """Make the image of an offer whose blobs are all here; returns its id."""
        return await copy.assemble(self._stores, self._gates, offered, progress)

    # -- keeping

    async def ensure(self, image: Image) -> None:
        """Unpack again what is missing of an image's snapshots."""
        await layers.ensure(self._stores, image)

    async def recover(self) -> int:
        """Clean what a crash left and find images that the database does not know. Before anything else is done.

        Returns:
            how many images were found again.
        """
        await asyncio.to_thread(sweep.sweep, self._stores)
        await self._stores.leases.expire(nameless=True)
        await self._stores.leases.settle(self._stores.recorded_blobs())
        if self._stores.records.by_id:
            return 0
        found = await asyncio.to_thread(sweep.find_images, self._stores)
        if found:
            await self._stores.records.put_all(found, {})
            _log.warning("found %d images that the database did not know; their names are lost", len(found))
        return len(found)

    async def check(self, progress: Progress, pull_again: PullAgain | None = None) -> dict[str, Any]:
        """Look whether all is there and whole, and with `pull_again` mend what can be mended (`check`, `repair`)."""
        found = Check(self._stores, progress)
        await found.run()
        if pull_again is not None and found.findings:
            await repair(self._stores, found, pull_again, progress)
        return found.report()

    async def collect(self) -> int:
        """Remove snapshots and blobs that nothing needs; only when all containers are known to `layers_in_use`."""
        count = await remove.collect(self._stores)
        self._empty_trash_later()
        return count

    async def close(self) -> None:
        """Wait for what still goes on behind the calls: the deletion of what was removed."""
        if self._emptying is not None:
            await asyncio.wait([self._emptying])

    def _empty_trash_later(self) -> None:
        if self._emptying is None or self._emptying.done():
            self._emptying = background().start(
                "empty the trash of layers", self._empty_trash(), _EMPTY_SECONDS, awaited=False
            )

    async def _empty_trash(self) -> None:
        try:
            await asyncio.to_thread(sweep.empty_trash, self._stores.roots.trash)
        except (WherryError, OSError) as error:
            _log.warning("the trash could not be emptied: %s", error)
