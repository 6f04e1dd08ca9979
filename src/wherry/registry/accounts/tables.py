"""The tables of accounts. `changes.number` grows with every change, so that each process knows when to forget."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

SCHEMA: Final = 1

metadata = MetaData()

changes = Table(
    "wherry_accounts",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("schema", Integer, nullable=False),
    Column("number", BigInteger, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # user, organisation
    Column("password", String(255), nullable=False),  # argon2id; empty: nobody can sign in
    Column("admin", Boolean, nullable=False),
    Column("serial", Integer, nullable=False),  # grows when credentials made before must no longer be good
    Column("about", String(200), nullable=False),
    Column("created", BigInteger, nullable=False),  # all times: seconds since the epoch
    sqlite_autoincrement=True,  # an id is never given twice: tokens name it
)

_ACCOUNT: Final = "accounts.id"

memberships = Table(
    "memberships",
    metadata,
    Column("organisation", ForeignKey(_ACCOUNT, ondelete="CASCADE"), primary_key=True),
    Column("account", ForeignKey(_ACCOUNT, ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),  # reader, writer, owner
    Index("memberships_by_account", "account"),
)

repositories = Table(
    "account_repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("namespace", String(255), nullable=False),  # the part before the first slash; empty without one
    Column("public", Boolean, nullable=False),
    Column("immutable", Boolean, nullable=False),  # nobody lets a tag point elsewhere
    Column("summary", String(200), nullable=False),
    Column("readme", Text, nullable=False),  # Markdown
    Column("created", BigInteger, nullable=False),
    Column("pushed", BigInteger, nullable=False),
    Index("account_repositories_by_namespace", "namespace"),
    sqlite_autoincrement=True,
)

members = Table(
    "members",
    metadata,
    Column("repository", ForeignKey("account_repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("account", ForeignKey(_ACCOUNT, ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),  # reader, writer, admin
    Index("members_by_account", "account"),
)

robots = Table(
    "robots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(130), nullable=False, unique=True),  # namespace+word
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the secret, which has 256 random bits
    Column("namespace", String(255), nullable=False),
    Column("repository", String(260), nullable=False),  # a name, or `namespace/*`
    Column("actions", String(64), nullable=False),  # of pull, push, overwrite, delete; commas between
    # who made it, and whose rights are its ceiling; null: the operator, on the command line
    Column("maker", ForeignKey(_ACCOUNT, ondelete="CASCADE"), nullable=True),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),  # 0: never
    Column("used", BigInteger, nullable=False),
    Index("robots_by_namespace", "namespace"),
    sqlite_autoincrement=True,
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),  # SHA-256 of the cookie's value
    Column("account", ForeignKey(_ACCOUNT, ondelete="CASCADE"), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Index("sessions_by_account", "account"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("maker", ForeignKey(_ACCOUNT, ondelete="CASCADE"), nullable=True),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)
