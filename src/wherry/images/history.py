"""How an image was made: one entry for each step, newest first."""

from typing import Any

from wherry.images.model import Image
from wherry.values import times


def history(image: Image) -> list[dict[str, Any]]:
    """Return Docker's history entries: `Id`, `Created` (Unix seconds), `CreatedBy`, `Tags`, `Size`, `Comment`.

    The newest one carries the image's id and names, the others `<missing>`. Layers that no step tells of are listed
    without words.
    """
    sizes = [layer.unpacked for layer in image.record.layers]
    steps: list[dict[str, Any]] = []
    position = 0
    for step in image.config.history:
        size = 0
        if not step.empty_layer and position < len(sizes):
            size = sizes[position]
            position += 1
        steps.append(_entry(step.created, step.created_by, step.comment, size))
    steps += [_entry(image.created, "", "", size) for size in sizes[position:]]
    if not steps:
        steps.append(_entry(image.created, "", image.config.comment, 0))
    steps[-1]["Id"] = image.id
    steps[-1]["Tags"] = list(image.names) or None
    return steps[::-1]


def _entry(created: str, created_by: str, comment: str, size: int) -> dict[str, Any]:
    return {
        "Comment": comment,
        "Created": times.seconds(created),
        "CreatedBy": created_by,
        "Id": "<missing>",
        "Size": size,
        "Tags": None,
    }
