"""Operations on a store that are run under a fault (`inject`): each opens a data root and does one thing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults.trap import begin
from tests.images.conftest import Store
from wherry.distribution.settings import Settings
from wherry.images.commit import Commit
from wherry.oci.reference import parse_normalized


@contextmanager
def opened(root: str) -> Iterator[Store]:
    """Open a data root as an engine that starts does."""
    store = Store(root)
    store.run(store.images.recover())
    store.run(store.images.collect())
    try:
        yield store
    finally:
        store.close()
        store.run(store.loop.shutdown_default_executor())
        store.loop.close()


def load(arguments: dict[str, Any]) -> None:
    """Load the archive `archive`."""
    with opened(arguments["root"]) as store, open(arguments["archive"], "rb") as file:
        begin()
        store.run(store.images.load(file.fileno(), lambda _: None))


def remove(arguments: dict[str, Any]) -> None:
    """Remove the image `name`, by force."""
    with opened(arguments["root"]) as store:
        begin()
        store.remove(arguments["name"], force=True)


def commit(arguments: dict[str, Any]) -> None:
    """Commit the upper directory `upper` on top of the image `base` as `name`."""
    with opened(arguments["root"]) as store:
        base = store.images.resolve(arguments["base"])
        what = Commit(
            "0" * 64, {"Cmd": ["true"]}, {"Cmd": ["true"]}, name=parse_normalized(arguments["name"]).with_default_tag()
        )
        fd = os.open(arguments["upper"], os.O_RDONLY | os.O_DIRECTORY)
        begin()
        try:
            store.run(store.images.commit(base.id, fd, what))
        finally:
            os.close(fd)


def pull(arguments: dict[str, Any]) -> None:
    """Pull the image `image`."""
    settings = Settings(certs=(), delays=(0.01,))
    with opened(arguments["root"]) as store:
        begin()
        store.run(store.images.pull(settings, parse_normalized(arguments["image"]), lambda _: None))


def push(arguments: dict[str, Any]) -> None:
    """Push the image `image`."""
    settings = Settings(certs=(), delays=(0.01,))
    with opened(arguments["root"]) as store:
        begin()
        store.run(store.images.push(settings, parse_normalized(arguments["image"]), lambda _: None))
