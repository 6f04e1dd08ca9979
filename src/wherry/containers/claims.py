"""Volumes that are spoken for: until a new container is in the registry, nothing else says that it will need them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Claims:
    """Volumes that a container which is being made will have: nobody may remove them meanwhile."""

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()

    def __contains__(self, name: str) -> bool:
        return self._names[name] > 0

    @contextmanager
    def hold(self, claimed: Iterable[str]) -> Iterator[None]:
        """Claim volumes for a while."""
        held = list(claimed)
        self._names.update(held)
        try:
            yield
        finally:
            self._names.subtract(held)
