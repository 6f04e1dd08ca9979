"""The table: every command and request of which this engine says that it does what Docker does."""

from tests.compat import (
    rows_api,
    rows_build,
    rows_changes,
    rows_copy,
    rows_disk,
    rows_distribution,
    rows_image_verbs,
    rows_images,
    rows_lifecycle,
    rows_look,
    rows_names,
    rows_network,
    rows_run,
    rows_state,
    rows_volumes,
)
from tests.compat.deviations import DEVIATIONS
from tests.compat.row import Row

_ALL: list[Row] = [
    row._replace(deviation=DEVIATIONS.get(row.title, ""))
    for row in (
        *rows_look.ROWS,
        *rows_api.ROWS,
        *rows_images.ROWS,
        *rows_changes.ROWS,
        *rows_image_verbs.ROWS,
        *rows_disk.ROWS,
        *rows_distribution.ROWS,
        *rows_copy.ROWS,
        *rows_run.ROWS,
        *rows_lifecycle.ROWS,
        *rows_state.ROWS,
        *rows_volumes.ROWS,
        *rows_network.ROWS,
        *rows_names.ROWS,
        *rows_build.ROWS,
    )
]
# what two topics ask alike is asked once
ROWS: list[Row] = list({row.title: row for row in reversed(_ALL)}.values())[::-1]
