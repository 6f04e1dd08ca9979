"""Reads and writes of the tables. Blocks; may be called from any thread."""

import os
import time
from collections.abc import Iterable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from wherry.errors import NewerSchema
from wherry.registry.content.layout import Entry
from wherry.registry.content.manifests import Facts
from wherry.registry.metadata import tables as t
from wherry.registry.sqlite import open_engine


class Referrer:
    """A manifest that has a subject."""

    __slots__ = ("annotations", "artifact_type", "digest", "media_type", "size")

    def __init__(self, digest: str, media_type: str, size: int, artifact_type: str, annotations: str) -> None:
        self.digest = digest
        self.media_type = media_type
        self.size = size
        self.artifact_type = artifact_type
        self.annotations: dict[str, str] = msgspec.json.decode(annotations)


class Database:
    """The registry's metadata.

    Args:
        url: SQLAlchemy's (`sqlite:////var/lib/…/metadata.db`, `postgresql+psycopg://…`).
        directory: what goes with it when it is closed: that of a registry that is kept in memory.

    Raises:
        NewerSchema: made by a newer version.
    """

    def __init__(self, url: str, directory: TemporaryDirectory[str] | None = None) -> None:
        self._directory = directory
        self._engine = _engine(url)
        self._writes = self._engine.execution_options(write=True)
        with self._writes.begin() as db:
            t.schema.create(db, checkfirst=True)
            number = db.execute(sql.select(t.schema.c.number)).scalar()
            if number is not None and number > t.SCHEMA:
                raise NewerSchema(f"the metadata has schema {number}, this version knows {t.SCHEMA}")
            if number is not None and number < t.SCHEMA:
                t.metadata.drop_all(db)
                number = None
            t.metadata.create_all(db)
            if number is None:
                db.execute(t.schema.insert().values(number=t.SCHEMA))

    @property
    def engine(self) -> Engine:
        """For what is joined with these tables elsewhere (search)."""
        return self._engine

    def close(self) -> None:
        """Give up all connections."""
        self._engine.dispose()
        if self._directory is not None:
            self._directory.cleanup()

    # --- repositories

    def versions(self) -> dict[str, str]:
        """Repository -> version of the index.json that its rows were read from."""
        with self._engine.connect() as db:
            query = sql.select(t.repositories.c.name, t.repositories.c.version)
            return {row.name: row.version for row in db.execute(query)}

    def version(self, name: str) -> str:
        """The same of one; empty where it has no rows."""
        with self._engine.connect() as db:
            found = db.execute(sql.select(t.repositories.c.version).where(t.repositories.c.name == name)).scalar()
            return str(found or "")

    def names(self, last: str, count: int) -> list[str]:
        """Up to `count` repository names behind `last`, in byte order."""
        query = sql.select(t.repositories.c.name).order_by(t.repositories.c.name).limit(count)
        if last:
            query = query.where(t.repositories.c.name > last)
        with self._engine.connect() as db:
            return list(db.execute(query).scalars())

    def replace(
        self, name: str, version: str, tags: dict[str, str], manifests: Iterable[tuple[str, Entry, Facts, int]]
    ) -> None:
        """Write all rows of a repository anew; `manifests`: digest, entry, facts, pushed (ns)."""
        with self._writes.begin() as db:
            repository = _repository(db, name, version)
            assert repository is not None  # only `before` makes it so
            db.execute(t.manifests.delete().where(t.manifests.c.repository == repository))
            pushed: dict[str, int] = {}
            rows = []
            for digest, entry, facts, when in manifests:
                rows.append(_row(repository, digest, entry, facts, when))
                pushed[digest] = when
            if rows:
                db.execute(t.manifests.insert(), rows)
            known = {
                (tag, digest): when
                for tag, digest, when in db.execute(
                    sql.select(t.tags.c.name, t.tags.c.digest, t.tags.c.pushed).where(t.tags.c.repository == repository)
                )
            }
            db.execute(t.tags.delete().where(t.tags.c.repository == repository))
            if tags:
                db.execute(
                    t.tags.insert(),
                    [
                        {
                            "repository": repository,
                            "name": tag,
                            "digest": digest,
                            "pushed": known.get((tag, digest), pushed.get(digest, 0)),
                        }
                        for tag, digest in tags.items()
                    ],
                )

    def add(
        self, name: str, before: str, version: str, digest: str, entry: Entry, facts: Facts, tags: Iterable[str]
    ) -> bool:
        """A manifest was pushed, and `tags` now point at it.

        Args:
            before: version of the index.json that was changed.
            version: of the one that was written.

        Returns:
            False, and nothing is changed, where the rows are not those of `before`: `replace` them.
        """
        now = time.time_ns()
        with self._writes.begin() as db:
            repository = _repository(db, name, version, before)
            if repository is None:
                return False
            mine = t.manifests.c.repository == repository
            db.execute(t.manifests.delete().where(mine, t.manifests.c.digest == digest))
            db.execute(t.manifests.insert(), [_row(repository, digest, entry, facts, now)])
            for tag in tags:
                db.execute(t.tags.delete().where(t.tags.c.repository == repository, t.tags.c.name == tag))
                db.execute(t.tags.insert().values(repository=repository, name=tag, digest=digest, pushed=now))
        return True

    def remove(self, name: str, before: str, version: str, digests: Iterable[str], tags: Iterable[str]) -> bool:
        """Manifests and tags are gone; arguments and result as of `add`."""
        with self._writes.begin() as db:
            repository = _repository(db, name, version, before)
            if repository is None:
                return False
            for digest in digests:
                db.execute(
                    t.manifests.delete().where(t.manifests.c.repository == repository, t.manifests.c.digest == digest)
                )
            for tag in tags:
                db.execute(t.tags.delete().where(t.tags.c.repository == repository, t.tags.c.name == tag))
        return True

    def forget(self, name: str) -> None:
        """A repository is gone."""
        with self._writes.begin() as db:
            found = db.execute(sql.select(t.repositories.c.id).where(t.repositories.c.name == name)).scalar()
            if found is not None:
                db.execute(t.manifests.delete().where(t.manifests.c.repository == found))
                db.execute(t.tags.delete().where(t.tags.c.repository == found))
                db.execute(t.repositories.delete().where(t.repositories.c.id == found))
            db.execute(t.blobs.delete().where(t.blobs.c.repository == name))

    def referrers(self, name: str, subject: str) -> list[Referrer]:
        """Manifests of a repository that have that subject, oldest first."""
        m = t.manifests.c
        query = (
            sql.select(m.digest, m.media_type, m.size, m.artifact_type, m.annotations)
            .join(t.repositories, t.repositories.c.id == m.repository)
            .where(t.repositories.c.name == name, m.subject == subject)
            .order_by(m.pushed, m.digest)
        )
        with self._engine.connect() as db:
            return [Referrer(*row) for row in db.execute(query)]

    # --- blobs: hints

    def holders(self, digest: str, count: int) -> list[str]:
        """Up to `count` repositories that probably hold a blob."""
        query = sql.select(t.blobs.c.repository).where(t.blobs.c.digest == digest).limit(count)
        with self._engine.connect() as db:
            return list(db.execute(query).scalars())

    def hold(self, name: str, digest: str, size: int) -> None:
        """A repository holds a blob now."""
        mine = (t.blobs.c.digest == digest, t.blobs.c.repository == name)
        with self._writes.begin() as db:
            if db.execute(t.blobs.update().where(*mine).values(size=size)).rowcount == 0:
                db.execute(t.blobs.insert().values(digest=digest, repository=name, size=size))

    def drop(self, name: str, digests: Sequence[str]) -> None:
        """A repository holds those blobs no longer."""
        with self._writes.begin() as db:
            for start in range(0, len(digests), 500):
                some = digests[start : start + 500]
                db.execute(t.blobs.delete().where(t.blobs.c.repository == name, t.blobs.c.digest.in_(some)))

    def set_blobs(self, name: str, blobs: dict[str, int]) -> None:
        """A repository holds exactly these (digest -> size)."""
        with self._writes.begin() as db:
            db.execute(t.blobs.delete().where(t.blobs.c.repository == name))
            if blobs:
                db.execute(
                    t.blobs.insert(),
                    [{"digest": digest, "repository": name, "size": size} for digest, size in blobs.items()],
                )


def _repository(db: Connection, name: str, version: str, before: str | None = None) -> int | None:
    """Row of a repository, made or brought to `version`; None where it is not at `before` (None: wherever it is)."""
    values = {"version": version, "updated": time.time_ns()}
    if before is not None:
        found = db.execute(sql.select(t.repositories.c.version).where(t.repositories.c.name == name)).scalar()
        if (found or "") != before:
            return None
    done = db.execute(t.repositories.update().where(t.repositories.c.name == name).values(values))
    if done.rowcount == 0:
        made = db.execute(t.repositories.insert().values(name=name, **values))
        key = made.inserted_primary_key
        if key is not None:
            return int(key[0])
    return int(db.execute(sql.select(t.repositories.c.id).where(t.repositories.c.name == name)).scalar_one())


def _row(repository: int, digest: str, entry: Entry, facts: Facts, pushed: int) -> dict[str, Any]:
    return {
        "repository": repository,
        "digest": digest,
        "media_type": entry.media_type,
        "size": entry.size,
        "subject": facts.subject,
        "artifact_type": facts.artifact_type[:255],
        "annotations": msgspec.json.encode(facts.annotations).decode(),
        "config_type": facts.config[0][:255],
        "config": facts.config[1],
        "content_size": facts.layers_size,
        "pushed": pushed,
    }


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return sql.create_engine(url, pool_pre_ping=True)
    path = sql.make_url(url).database
    if path:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    # a lost last transaction is found again by its repository's version
    return open_engine(url, synchronous="NORMAL", cache_kib=2000)


def is_damaged(error: Exception) -> bool:
    """Whether a database error says that the file itself is broken (and may be thrown away)."""
    text = str(error)
    return isinstance(error, DBAPIError) and ("malformed" in text or "not a database" in text)
