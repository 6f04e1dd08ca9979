"""What pages show of tags and images, read from the registry's content. Blocks; any thread."""

import re
from collections import OrderedDict
from typing import Any, Final

import msgspec
import sqlalchemy as sql
from msgspec import Struct

from wherry.errors import WherryError
from wherry.oci import image as images
from wherry.registry.content.repositories import Repositories
from wherry.registry.metadata import tables as t
from wherry.registry.metadata.database import Database, Referrer

_CONFIGS: Final = 1024
_VARIANTS: Final = 64
_TITLE: Final = "org.opencontainers.image.title"
_NOP = re.compile(r"^/bin/sh -c (?:#\(nop\)\s*)?")


class Variant(Struct):
    """One image of a tag: for a platform, or what an artifact has for one."""

    platform: str
    digest: str
    size: int


class TagLine(Struct):
    """A tag in a list."""

    name: str
    digest: str
    pushed: int  # seconds since the epoch
    kind: str  # image, artifact
    variants: list[Variant]

    @property
    def size(self) -> int:
        """Bytes of the image that most people pull: linux/amd64, else the first."""
        chosen = [v for v in self.variants if v.platform == "linux/amd64"] or self.variants
        return chosen[0].size if chosen else 0


class Step(Struct):
    """One step of an image's history, or a layer that has none."""

    command: str
    digest: str  # empty: it made no layer
    size: int
    share: float  # of the largest layer, in percent


class Details(Struct):
    """A tag's page."""

    digest: str
    media_type: str
    tags: list[str]
    line: TagLine
    chosen: Variant | None
    created: str
    author: str
    config: list[tuple[str, list[str]]]
    labels: list[tuple[str, str]]
    steps: list[Step]
    layers: int
    attached: list[Referrer]


class Images:
    """Reads tags and images.

    Args:
        repositories: their content.
        database: their metadata.
    """

    def __init__(self, repositories: Repositories, database: Database) -> None:
        self._repositories = repositories
        self._database = database
        self._platforms: OrderedDict[str, str] = OrderedDict()

    def count(self, name: str) -> int:
        """How many tags a repository has; 0 where nothing was pushed yet."""
        try:
            return len(self._repositories.load(name).tags)
        except WherryError:
            return 0

    def latest(self, name: str, *, offset: int = 0, count: int = 50, text: str = "") -> tuple[int, list[TagLine]]:
        """How many tags have `text` in their names, and one page of them, latest push first."""
        where = [t.repositories.c.name == name]
        if text:
            where.append(t.tags.c.name.contains(text, autoescape=True))
        base = sql.select(t.tags.c.name, t.tags.c.digest, t.tags.c.pushed).join(
            t.repositories, t.repositories.c.id == t.tags.c.repository
        )
        query = base.where(*where).order_by(t.tags.c.pushed.desc(), t.tags.c.name.desc()).offset(offset).limit(count)
        with self._database.engine.connect() as db:
            total = int(
                db.execute(sql.select(sql.func.count()).select_from(base.where(*where).subquery())).scalar_one()
            )
            rows = db.execute(query).all()
        return total, [self._line(name, row.name, row.digest, row.pushed // 10**9) for row in rows]

    def details(self, name: str, reference: str, platform: str = "") -> Details:
        """Everything about a tag or a digest.

        Args:
            name: the repository.
            reference: tag or digest.
            platform: of which image, where there are several; empty chooses.

        Raises:
            NameUnknown, ManifestUnknown: it is not there.
        """
        digest, entry = self._repositories.resolve(name, reference)
        snapshot = self._repositories.load(name)
        line = self._line(name, reference, digest, self._pushed(name, reference, digest))
        wanted = [v for v in line.variants if platform in (v.platform, v.digest)]
        wanted += [v for v in line.variants if v.platform == "linux/amd64"] + line.variants
        chosen = wanted[0] if wanted else None
        details = Details(
            digest=digest,
            media_type=entry.media_type,
            tags=[tag for tag in snapshot.names if snapshot.tags[tag] == digest],
            line=line,
            chosen=chosen,
            created="",
            author="",
            config=[],
            labels=[],
            steps=[],
            layers=0,
            attached=self._repositories.referrers(name, digest),
        )
        if chosen is not None and chosen.digest in snapshot.manifests:
            self._describe(name, chosen.digest, details)
        return details

    # --- parts

    def _pushed(self, name: str, reference: str, digest: str) -> int:
        column, table, where = t.manifests.c.pushed, t.manifests, t.manifests.c.digest == digest
        if ":" not in reference:
            column, table, where = t.tags.c.pushed, t.tags, t.tags.c.name == reference
        query = (
            sql.select(column)
            .join(t.repositories, t.repositories.c.id == table.c.repository)
            .where(t.repositories.c.name == name, where)
        )
        with self._database.engine.connect() as db:
            return int(db.execute(query).scalar() or 0) // 10**9

    def _line(self, name: str, tag: str, digest: str, pushed: int) -> TagLine:
        line = TagLine(tag, digest, pushed, "image", [])
        try:
            entry = self._repositories.load(name).manifests[digest]
            raw = self._repositories.read_manifest(name, digest)
            if entry.media_type in images.INDEXES:
                seen: set[tuple[str, str]] = set()
                for child in images.read_index(raw).manifests:
                    annotations = child.annotations or {}
                    if "vnd.docker.reference.type" in annotations or child.media_type not in images.MANIFESTS:
                        continue  # an attestation of one of the images
                    # each is read: an index may name thousands, and the same one thousands of times
                    key = (child.digest, str(child.platform))
                    if key in seen:
                        continue
                    if len(seen) == _VARIANTS:
                        break
                    seen.add(key)
                    line.variants.append(self._variant(name, child))
            else:
                line.variants.append(self._single(name, digest, images.read_manifest(raw)))
                if not line.variants[0].platform:
                    line.kind = "artifact"
        except (WherryError, KeyError):
            return line  # damaged: what is known of it
        return line

    def _variant(self, name: str, child: images.Descriptor) -> Variant:
        platform = str(child.platform.normalized()) if child.platform is not None else ""
        try:
            manifest = images.read_manifest(self._repositories.read_manifest(name, child.digest))
        except WherryError:
            return Variant(platform, child.digest, 0)  # not pushed: an index may be sparse
        found = self._single(name, child.digest, manifest)
        return Variant(platform or found.platform, child.digest, found.size)

    def _single(self, name: str, digest: str, manifest: images.Manifest) -> Variant:
        size = manifest.config.size + sum(layer.size for layer in manifest.layers)
        if manifest.config.media_type not in images.CONFIGS:
            return Variant("", digest, size)
        known = self._platforms.get(manifest.config.digest)
        if known is None:
            known = str(images.read_config(self._read(name, manifest.config.digest)).platform)
            self._platforms[manifest.config.digest] = known
            while len(self._platforms) > _CONFIGS:
                self._platforms.popitem(last=False)
        return Variant(known, digest, size)

    def _read(self, name: str, digest: str) -> bytes:
        with self._repositories.open_blob(name, digest) as blob:
            return blob.read_at(0, images.CONFIG_LIMIT + 1)

    def _describe(self, name: str, digest: str, details: Details) -> None:
        try:
            manifest = images.read_manifest(self._repositories.read_manifest(name, digest))
            largest = max((layer.size for layer in manifest.layers), default=0) or 1
            details.layers = len(manifest.layers)
            if manifest.config.media_type not in images.CONFIGS:
                for layer in manifest.layers:
                    title = (layer.annotations or {}).get(_TITLE, layer.media_type)
                    details.steps.append(Step(title, layer.digest, layer.size, 100 * layer.size / largest))
                return
            config = images.read_config(self._read(name, manifest.config.digest))
        except WherryError:
            return
        details.created = config.created
        details.author = config.author
        details.config = _settings(config.config)
        details.labels = sorted((config.config.labels or {}).items())
        layers = list(manifest.layers)
        for step in config.history:
            command = _NOP.sub("", step.created_by).strip() or step.comment
            if step.empty_layer:
                details.steps.append(Step(command, "", 0, 0))
            elif layers:
                layer = layers.pop(0)
                details.steps.append(Step(command, layer.digest, layer.size, 100 * layer.size / largest))
        details.steps += [Step("", layer.digest, layer.size, 100 * layer.size / largest) for layer in layers]


def _settings(config: images.ContainerConfig) -> list[tuple[str, list[str]]]:
    def words(value: Any) -> list[str]:
        return [" ".join(word if word and " " not in word else msgspec.json.encode(word).decode() for word in value)]

    found: list[tuple[str, list[str]]] = []
    if config.entrypoint:
        found.append(("Entrypoint", words(config.entrypoint)))
    if config.cmd:
        found.append(("Command", words(config.cmd)))
    for title, text in (
        ("Working directory", config.working_dir),
        ("User", config.user),
        ("Stop signal", config.stop_signal),
    ):
        if text:
            found.append((title, [text]))
    for title, names in (("Ports", config.exposed_ports), ("Volumes", config.volumes)):
        if names:
            found.append((title, sorted(names)))
    if config.healthcheck is not None and config.healthcheck.test:
        found.append(("Health check", words(config.healthcheck.test)))
    if config.env:
        found.append(("Environment", list(config.env)))
    return found
