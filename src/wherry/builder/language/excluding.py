"""`--exclude` patterns as rules that a worker can use."""

from wherry.builder.language.ignorefile import clean
from wherry.patterns import globs


def rules(patterns: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    """Patterns of one instruction, in order; the last one that fits decides.

    Returns:
        (pattern of a whole path, whether it takes in again) for each.

    Raises:
        InvalidArgument: a pattern that is none.
    """
    found = []
    for text in patterns:
        again = text.startswith("!")
        pattern = clean(text[again:]).lstrip("/")
        globs.path(pattern)
        found.append((pattern, again))
    return tuple(found)
