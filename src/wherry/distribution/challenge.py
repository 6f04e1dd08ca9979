"""`WWW-Authenticate`, read as RFC 9110 (section 11.6.1) has it: several challenges, in one field or in many."""

import re
from collections.abc import Iterable

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}|[^\s,"]+))')
_SCHEME = re.compile(rf"\s*({_TOKEN})(?=\s|,|\Z)")
_FIELD_LIMIT = 16 << 10


class Challenge:
    """One challenge: its scheme and parameters' names in lower case."""

    __slots__ = ("parameters", "scheme")

    def __init__(self, scheme: str, parameters: dict[str, str]) -> None:
        self.scheme = scheme
        self.parameters = parameters

    def __repr__(self) -> str:
        return f"Challenge({self.scheme!r}, {self.parameters!r})"


def parse(fields: Iterable[str]) -> list[Challenge]:
    """Return the challenges of the header's fields, in order; what cannot be read ends its field."""
    found: list[Challenge] = []
    for field in fields:
        text = field[:_FIELD_LIMIT]
        position = 0
        current: Challenge | None = None
        while position < len(text):
            if text[position] in ", \t":
                position += 1
                continue
            match = _PARAMETER.match(text, position)
            if match is not None and current is not None:
                quoted, plain = match[2], match[3]
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                current.parameters.setdefault(match[1].lower(), value)
            else:
                match = _SCHEME.match(text, position)
                if match is None:
                    break
                current = Challenge(match[1].lower(), {})
                found.append(current)
            position = match.end()
    return found
