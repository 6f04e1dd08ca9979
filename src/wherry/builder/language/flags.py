"""The `--flag` words of an instruction: which it knows, their kinds and values."""

from collections.abc import Iterable

from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.suggestions import did_you_mean


class Flags:
    """The flags of one instruction, read.

    Args:
        words: the flag words, quotes already taken away.
        text: names of flags with a value.
        lists: names of flags that may come again.
        switches: names of flags that are true alone, or take `true` and `false`.

    Raises:
        DockerfileError: an unknown flag, one given twice, a missing or wrong value.
    """

    def __init__(
        self,
        words: Iterable[str],
        *,
        text: tuple[str, ...] = (),
        lists: tuple[str, ...] = (),
        switches: tuple[str, ...] = (),
    ) -> None:
        self._values: dict[str, list[str]] = {}
        known = (*text, *lists, *switches)
        for word in words:
            if word == "--":
                break
            if not word.startswith("--"):
                raise DockerfileError(f"arg should start with -- : {word}")
            shown, equals, value = word.partition("=")
            name = shown[2:]
            if name not in known:
                raise DockerfileError(did_you_mean(f"unknown flag: {shown}", name, known))
            if name in self._values and name not in lists:
                raise DockerfileError(f"duplicate flag specified: {shown}")
            if name in switches:
                value = _switch(shown, bool(equals), value)
            elif not equals:
                raise DockerfileError(f"missing a value on flag: {shown}")
            self._values.setdefault(name, []).append(value)

    def text(self, name: str, default: str = "") -> str:
        """The value of a text flag."""
        return self._values.get(name, [default])[0]

    def list(self, name: str) -> tuple[str, ...]:
        """All values of a list flag."""
        return tuple(self._values.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """A switch, None where it was not given."""
        values = self._values.get(name)
        return None if values is None else values[0] == "true"

    def used(self) -> tuple[str, ...]:
        """Names of the flags that were given, sorted."""
        return tuple(sorted(self._values))


def _switch(shown: str, has_value: bool, value: str) -> str:
    if has_value and not value:
        raise DockerfileError(f"missing a value on flag: {shown}")
    lowered = value.lower()
    if lowered in ("", "true"):
        return "true"
    if lowered == "false":
        return "false"
    raise DockerfileError(f"expecting boolean value for flag {shown}, not: {value}")
