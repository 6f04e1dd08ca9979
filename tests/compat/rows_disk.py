"""Disk usage: what is counted differs on purpose, the shape does not."""

from tests.compat.row import Row, call, look

_NUMBERS = ((r"\d[\d.]*\s?[kMG]?B( \(\d+%\))?", "<size>"), (r" +", " "))

ROWS: list[Row] = [
    look("docker system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'"),
    look("docker system df", normalise=_NUMBERS),
    look("docker system df -v | grep -E '^[A-Z]' | sed -E 's/  +/ /g'"),
    look("docker system df --format '{{.Nope}}'"),
    look("docker system df nope"),
    look("docker system df -v --format '{{.Nope}}'"),
    call("GET", "/v/system/df?type=image", shape=True, skip=("[].ImagesReclaimable",), since=(26,)),
    call("GET", "/v/system/df?type=volume", since=(26,)),
    call("GET", "/v/system/df?type=build-cache", setup="docker builder prune -af", since=(26,)),
    call("GET", "/v/system/df?type=nope", since=(26,)),
    call("GET", "/v/system/df?type=image&type=nope", since=(26,)),
]
