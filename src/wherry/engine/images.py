"""`engine.images`: the images package, joined with the containers' claims and the event stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from wherry.containers import commit
from wherry.containers.context import Context
from wherry.distribution import credentials
from wherry.distribution.download import Download, parse_url
from wherry.distribution.login import check
from wherry.distribution.search import search, tags
from wherry.distribution.settings import Settings
from wherry.errors import InvalidReference
from wherry.events import Events
from wherry.images import changes as edits
from wherry.images.describe import describe, manifests
from wherry.images.images import Images as Store
from wherry.images.model import Image
from wherry.images.tag import target
from wherry.oci import digest as digests
from wherry.oci.platform import Platform
from wherry.oci.reference import Reference, parse_normalized
from wherry.snapshots.limits import Limits
from wherry.values.jsontypes import Json
from wherry.wire.containers import Config
from wherry.wire.copies import Missing, Offer

JsonList = list[Json]
ImageList = list[Image]
Filters = dict[str, list[str]]
Names = list[str]
Missings = list[Missing]
Progress = Callable[[Json], None]


class Images:
    """Every method takes a reference, an id or an unambiguous id prefix.

    Args:
        store: the images of this data root.
        context: the containers' wiring: what they use is not removed.
        events: the event stream.
        registries: the registry settings.
    """

    def __init__(self, store: Store, context: Context, events: Events, registries: Settings) -> None:
        self._store = store
        self._context = context
        self._events = events
        self._registries = registries

    def _in_use(self, image_id: str) -> list[tuple[str, bool]]:
        return [(c.id, c.running) for c in self._context.registry if c.record.image == image_id]

    def _tell(self, action: str, id_: str, name: str = "") -> None:
        self._events.publish("image", action, name or id_, {"name": name} if name else {})

    async def resolve(self, ref: str) -> Image:
        """Find one."""
        return self._store.resolve(ref)

    async def list(self, filters: Filters | None = None, all: bool = False) -> ImageList:
        """Find those that fit; newest first."""
        return self._store.select(filters, all)

    async def shared_sizes(self) -> dict[str, int]:
        """By image id: bytes of its layers that other images have too."""
        return self._store.shared_sizes()

    async def local_manifests(self, ref: str) -> JsonList:
        """The manifests of an image that are here, with sizes and the containers that use them; Docker's entries."""
        image = self._store.resolve(ref)
        entry = await self._store.local_manifest(image)
        entry["ImageData"]["Containers"] = [container for container, _ in self._in_use(image.id)]
        return [entry]

    async def tag(self, source: str, repo: str, tag: str = "") -> None:
        """Let one more name point at an image."""
        reference = await self._store.tag(source, repo, tag)
        self._tell("tag", self._store.resolve(source).id, reference.familiar())

    async def remove(self, ref: str, force: bool = False, noprune: bool = False) -> JsonList:
        """Remove a name, or an image; returns Docker's report."""
        id_ = self._store.resolve(ref).id
        report = await self._store.remove(ref, force, noprune, in_use=self._in_use)
        for entry in report:
            for kind, what in entry.items():
                self._tell("untag" if kind == "Untagged" else "delete", id_, what)
        return [dict(entry) for entry in report]

    async def history(self, ref: str) -> JsonList:
        """Docker's history entries, newest step first."""
        return self._store.history(ref)

    async def load(self, chunks: AsyncIterator[bytes], progress: Progress, quiet: bool = False) -> Names:
        """Load an archive; returns the ids."""
        ids = await self._store.load(chunks, progress, quiet)
        for id_ in ids:
            self._tell("load", id_)
        return ids

    def save(self, names: Names) -> AsyncGenerator[bytes, None]:
        """Return an archive of images, chunk by chunk."""
        return self._store.save(names)

    async def import_(
        self, chunks: AsyncIterator[bytes], repo: str, tag: str, changes: Names, message: str, platform: str
    ) -> str:
        """Make an image from a root file system; returns its id."""
        id_ = await self._store.import_(chunks, repo, tag, changes, message, platform or None)
        self._tell("import", id_)
        return id_

    async def import_from(
        self, address: str, repo: str, tag: str, changes: Names, message: str, platform: str, progress: Progress
    ) -> str:
        """Make an image from a root file system that a URL gives; returns its id."""
        url = parse_url(address)
        edits.apply({}, changes)  # before anything is fetched
        if repo:
            target(repo, tag)
        async with Download(self._registries, url, Limits().max_bytes) as download:
            shown = str(url.with_user(None))
            progress({"status": f"Downloading from {shown}"})
            chunks = _counted(download, progress)
            id_ = await self._store.import_(chunks, repo, tag, changes, message, platform or None, shown)
        self._tell("import", id_)
        return id_

    async def commit(
        self,
        ref: str,
        config: Config | None,
        changes: Names,
        author: str,
        comment: str,
        repo: str,
        tag: str,
        pause: bool,
    ) -> str:
        """Make an image of what a container changed (see `containers.commit`); returns its id."""
        name = target(repo, tag) if repo else None
        id_ = await commit.commit(
            self._context,
            self._context.registry.find(ref),
            self._store.commit,
            config=config,
            instructions=changes,
            author=author,
            comment=comment,
            name=name,
            pause=pause,
        )
        if name is not None:
            self._tell("tag", id_, name.familiar())
        return id_

    async def bootstrap(self, name: str, progress: Progress) -> str:
        """Make a base image from the machine's own packages; returns its id."""
        id_ = await self._store.bootstrap(name, progress)
        self._tell("import", id_, name)
        return id_

    async def pull(self, image: str, tag: str, platform: str, auth: str, progress: Progress) -> None:
        """Pull an image.

        Args:
            image: a name, or one with a tag or digest of its own.
            tag: a tag or a digest; with none anywhere, all tags are pulled.
            auth: the caller's `X-Registry-Auth`.
        """
        name = parse_normalized(image)
        if tag:
            name = name.with_digest(digests.parse(tag)) if ":" in tag else name.with_tag(tag)
        pulled = await self._store.pull(
            self._registries, name, progress, credentials.from_header(auth), platform or None
        )
        for found in pulled:
            shown = name.familiar() if name.tag or name.digest else f"{name.familiar_name()}@{found.digest}"
            self._events.publish("image", "pull", shown, {"name": name.familiar_name()})

    async def push(self, image: str, tag: str, auth: str, progress: Progress, platform: Platform | None = None) -> None:
        """Push a tag of a repository, or all its tags.

        Args:
            image: the repository, or a name with a tag.
            tag: a tag; with none anywhere, all tags are pushed.
            auth: the caller's `X-Registry-Auth`.
            platform: only the image of this platform.
        """
        name = parse_normalized(image)
        if name.digest:
            raise InvalidReference("cannot push a digest reference")
        if tag:
            name = name.with_tag(tag)
        done = await self._store.push(self._registries, name, progress, credentials.from_header(auth), platform)
        for pushed, _ in done:
            self._events.publish("image", "push", pushed.familiar(), {"name": pushed.familiar_name()})

    async def offer(self, ref: str) -> Offer:
        """Describe an image for another engine that it shall be copied to."""
        return self._store.offer(ref)

    async def missing(self, offered: Offer) -> Missings:
        """Say what of another engine's offer is not here."""
        return await self._store.missing(offered)

    def read_blob(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Return a blob from a byte on, piece by piece."""
        return self._store.read_blob(digest, offset)

    async def receive_blob(self, digest: str, size: int, offset: int, chunks: AsyncIterator[bytes]) -> None:
        """Take a blob, or the rest of one, from another engine."""
        await self._store.receive_blob(digest, size, offset, chunks)

    async def assemble(self, offered: Offer, progress: Progress) -> str:
        """Make the image of an offer whose blobs are all here; returns its id."""
        id_ = await self._store.assemble(offered, progress)
        self._tell("load", id_)
        return id_

    async def login(self, auth: Json) -> Json:
        """Check a credential (Docker's AuthConfig); returns Docker's answer.

        Raises:
            Unauthorized: it is none.
        """
        credential = credentials.from_json(auth)
        identity_token = await check(self._registries, credential)
        return {"Status": "Login Succeeded", "IdentityToken": identity_token}

    async def distribution(self, image: str, auth: str) -> Json:
        """What a registry says of a name: Docker's `Descriptor` and `Platforms`."""
        name = parse_normalized(image).with_default_tag()
        return await describe(self._registries, name, credentials.from_header(auth))

    async def manifests(self, image: str, auth: str, insecure: bool, verbose: bool) -> Json:
        """What a registry has under a name (`images.describe.manifests`); `insecure` allows it plain http."""
        name = parse_normalized(image).with_default_tag()
        registries = self._registries.with_insecure(name.domain) if insecure else self._registries
        return await manifests(registries, name, credentials.from_header(auth), verbose=verbose)

    async def search(self, term: str, limit: int, filters: Filters, auth: str) -> JsonList:
        """Search Docker Hub, or with `HOST/TERM` another registry; Docker's entries."""
        return await search(self._registries, term, limit, filters, credentials.from_header(auth))

    async def remote_tags(self, image: str, auth: str) -> Names:
        """All tags of a repository in its registry."""
        return await tags(self._registries, parse_normalized(image), credentials.from_header(auth))

    async def check(self, repair: bool, auth: str, progress: Progress) -> Json:
        """Look whether the store is whole, and mend it (`images.check`); `auth` is for registries."""

        async def pull_again(name: Reference) -> None:
            await self._store.pull(self._registries, name, lambda _: None, credentials.from_header(auth))

        return await self._store.check(progress, pull_again if repair else None)

    async def prune(self, filters: Filters | None = None) -> Json:
        """Remove what nobody uses; returns Docker's report."""
        report = await self._store.prune(filters, in_use=self._in_use)
        self._events.publish("image", "prune", "", {"reclaimed": str(report["SpaceReclaimed"])})
        return report


async def _counted(download: Download, progress: Progress) -> AsyncIterator[bytes]:
    """The pieces of a download, with progress as Docker shows it, at most once for each hundredth."""
    count = told = 0
    async for piece in download.pieces():
        count += len(piece)
        total = download.size or 0
        if count - told >= max(total // 100, 1 << 20) or count == total:
            told = count
            progress({"status": "Importing", "progressDetail": {"current": count, "total": total}})
        yield piece
