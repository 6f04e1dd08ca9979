"""The tables. All of it can be thrown away: `wherry-registry reindex` fills them from the layouts on disk.

What cannot be rebuilt (accounts, descriptions) does not belong in here.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

SCHEMA: Final = 1

metadata = MetaData()

schema = Table("wherry_schema", metadata, Column("number", Integer, primary_key=True))

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("version", String(128), nullable=False),  # of the index.json that these rows were read from
    Column("updated", BigInteger, nullable=False),  # nanoseconds since the epoch
)

_OF_REPOSITORY: Final = "repositories.id"

manifests = Table(
    "manifests",
    metadata,
    Column("repository", ForeignKey(_OF_REPOSITORY, ondelete="CASCADE"), primary_key=True),
    Column("digest", String(136), primary_key=True),
    Column("media_type", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("subject", String(136), nullable=False),
    Column("artifact_type", String(255), nullable=False),
    Column("annotations", Text, nullable=False),  # JSON object
    Column("config_type", String(255), nullable=False),
    Column("config", String(136), nullable=False),
    Column("content_size", BigInteger, nullable=False),  # of config and layers
    Column("pushed", BigInteger, nullable=False),
    Index("manifests_by_subject", "repository", "subject"),
)

tags = Table(
    "tags",
    metadata,
    Column("repository", ForeignKey(_OF_REPOSITORY, ondelete="CASCADE"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("digest", String(136), nullable=False),
    Column("pushed", BigInteger, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(136), primary_key=True),
    Column("repository", String(255), primary_key=True),  # by name: a hint where to look, checked on the disk
    Column("size", BigInteger, nullable=False),
)
