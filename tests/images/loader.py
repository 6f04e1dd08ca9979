"""A process that loads one archive and then another name of it, to be killed: `python loader.py ROOT ARCHIVE`.

Prints `ready` when its store is open, and `done` when the load has returned.
"""

import sys

from tests.images.conftest import Store


def main(root: str, archive: str) -> None:
    """Load, and say so."""
    store = Store(root)
    store.run(store.images.recover())
    print("ready", flush=True)
    with open(archive, "rb") as file:
        store.run(store.images.load(file.fileno(), lambda _: None))
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
