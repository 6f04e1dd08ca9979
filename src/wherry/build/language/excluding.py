"""`--exclude` patterns as rules that a worker can use: regular expressions over whole paths."""

from wherry.build.language.ignorefile import clean
from wherry.build.language.pathpatterns import expression
from wherry.errors import InvalidArgument

_MANY_STARS = 6


def rules(patterns: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    """Patterns of one instruction, in order; the last one that fits decides.

    Returns:
        (expression, whether it takes in again) for each.

    Raises:
        InvalidArgument: a pattern that is none.
    """
    found = []
    for text in patterns:
        again = text.startswith("!")
        pattern = clean(text[again:]).lstrip("/")
        if pattern.count("*") > _MANY_STARS:
            # one that backtracks would be a way to keep the engine busy
            raise InvalidArgument(f"--exclude={text}: more than {_MANY_STARS} stars in one pattern")
        # what is left out takes along everything below it
        found.append((f"(?:{expression(pattern)})(?:/.*)?", again))
    return tuple(found)
