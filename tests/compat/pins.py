"""What differs, held: both answers of each declared row, and each 500 of dockerd that is a 4xx here.

`python -m tests.compat.run --pin` writes them anew, for the rows that it has asked.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("pins.json")

# part -> [dockerd's, wherry's]; of texts the lines that the other one does not have
Difference = dict[str, list[Any]]


class Pins(NamedTuple):
    """The pinned answers, by the titles of rows.

    Attributes:
        differences: of declared rows, what differs.
        statuses: of rows that dockerd answers with 500, the status here.
    """

    differences: dict[str, Difference]
    statuses: dict[str, int]


def load() -> Pins:
    """Read the file."""
    found = json.loads(FILE.read_text())
    return Pins(found["differences"], found["statuses"])


def save(pins: Pins) -> None:
    """Write the file, sorted."""
    found = {"differences": pins.differences, "statuses": pins.statuses}
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def difference(part: str, want: int | str, got: int | str) -> Difference:
    """One part that differs, short enough to be kept."""
    if isinstance(want, int) or isinstance(got, int):
        return {part: [want, got]}
    ours, theirs = got.splitlines(), want.splitlines()
    if len(ours) + len(theirs) > 6:
        ours, theirs = [line for line in ours if line not in theirs], [line for line in theirs if line not in ours]
    return {part: [theirs, ours]}
