"""Open a registry's root: driver, database, schema number."""

import os
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy.exc import DBAPIError

from wherry.errors import NewerSchema, StoreCorrupt
from wherry.registry.config import Settings
from wherry.registry.metadata.database import Database, is_damaged
from wherry.registry.storage.driver import Driver
from wherry.registry.storage.filesystem import Filesystem
from wherry.registry.storage.memory import Memory

SCHEMA: Final = 1


def open_driver(settings: Settings) -> Driver:
    """The driver that the settings name.

    Raises:
        NewerSchema: the root was written by a newer version.
    """
    if settings.storage.driver == "memory":
        return Memory()
    driver = Filesystem(settings.root)
    if driver.stat("schema") is None:
        driver.put("schema", b"%d\n" % SCHEMA)
        return driver
    raw, _ = driver.read("schema", 64)
    if not raw.strip().isdigit():
        raise StoreCorrupt(f"{settings.root}/schema is not a number")
    if int(raw) > SCHEMA:
        raise NewerSchema(f"{settings.root} has schema {int(raw)}, this version knows {SCHEMA}")
    return driver


def open_database(settings: Settings) -> Database:
    """The metadata; a damaged SQLite file is thrown away, since it can be rebuilt.

    Raises:
        NewerSchema: it was written by a newer version.
    """
    url = settings.database_url
    if settings.storage.driver == "memory" and not settings.database:
        directory = TemporaryDirectory(prefix="wherry-registry-")
        return Database(f"sqlite:///{directory.name}/metadata.db", directory)
    try:
        return Database(url)
    except DBAPIError as error:
        if not url.startswith("sqlite:///") or not is_damaged(error):
            raise
    path = url.removeprefix("sqlite:///")
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    return Database(url)
