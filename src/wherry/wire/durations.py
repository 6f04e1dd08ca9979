"""Durations in Docker's words: the engine's `Status` and the command's tables say them alike. And in Go's."""


def human_duration(seconds: float) -> str:
    """How long, roughly: `About a minute`, `3 hours`, `2 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def go_duration(nanoseconds: int) -> str:
    """Nanoseconds as Go prints a duration (`time.Duration.String`): `1m30.5s`, `500ms`, `0s`."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if 0 < rest < 10**9:
        unit, name = (10**6, "ms") if rest >= 10**6 else (10**3, "µs") if rest >= 10**3 else (1, "ns")
        return f"{sign}{_decimal(rest, unit)}{name}"
    minutes, rest = divmod(rest, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{before}{_decimal(rest, 10**9)}s"


def _decimal(value: int, unit: int) -> str:
    """A whole number of a thousandth, millionth… of `unit`, exactly: a float would round it."""
    whole, rest = divmod(value, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)
