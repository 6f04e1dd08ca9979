"""BuildKit's hints: which option a word that is none probably meant."""

from collections.abc import Collection


def suggest(word: str, options: Collection[str], *, case_sensitive: bool = True) -> str:
    """The option that `word` probably meant (at most two letters off), or "" when none is near or one is equal."""
    wanted = word if case_sensitive else word.lower()
    best, found = 3, ""
    if len(wanted) > 200 or len(options) > 300:
        return ""  # a hint is not worth that much time
    for option in options:
        candidate = option if case_sensitive else option.lower()
        if candidate == wanted:
            return ""
        if abs(len(candidate) - len(wanted)) < best:
            distance = _distance(wanted, candidate)
            if distance < best:
                best, found = distance, candidate
    if found and not case_sensitive:
        if word == word.lower():
            return found.lower()
        if word == word.upper():
            return found.upper()
    return found


def did_you_mean(message: str, word: str, options: Collection[str], *, case_sensitive: bool = True) -> str:
    """`message` with BuildKit's hint when `word` is near one of `options`."""
    match = suggest(word, options, case_sensitive=case_sensitive)
    return f"{message} (did you mean {match}?)" if match else message


def _distance(left: str, right: str) -> int:
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left, 1):
        current = [row]
        for column, b in enumerate(right, 1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (a != b)))
        previous = current
    return previous[-1]
