"""The table: every command and request of which this engine says that it does what Docker does."""

from tests.compat import (
    rows_api,
    rows_build,
    rows_changes,
    rows_copy,
    rows_disk,
    rows_distribution,
    rows_filters,
    rows_flags,
    rows_groups,
    rows_http,
    rows_ids,
    rows_image_verbs,
    rows_images,
    rows_lifecycle,
    rows_look,
    rows_names,
    rows_network,
    rows_run,
    rows_state,
    rows_verbs,
    rows_volumes,
)
from tests.compat.compare import REFERENCE
from tests.compat.deviations import DEVIATIONS
from tests.compat.row import Row

_FILES = (
    *(rows_look, rows_api, rows_images, rows_changes, rows_image_verbs, rows_disk, rows_distribution, rows_copy),
    *(rows_run, rows_lifecycle, rows_state, rows_volumes, rows_network, rows_names, rows_build),
    *(rows_http, rows_flags, rows_filters, rows_ids, rows_verbs, rows_groups),
)
# their answers are those of dockerd 26, and were not compared with older ones
_OF_THE_REFERENCE = (rows_http, rows_flags, rows_filters, rows_ids, rows_verbs, rows_groups)
TOPICS: dict[str, list[Row]] = {
    file.__name__.rpartition("rows_")[2]: [
        row._replace(
            deviation=DEVIATIONS.get(row.title, ""),
            since=max(row.since, REFERENCE) if file in _OF_THE_REFERENCE else row.since,
        )
        for row in file.ROWS
    ]
    for file in _FILES
}
# what two topics ask alike is asked once
_BY_TITLE: dict[str, Row] = {}
for _rows in TOPICS.values():
    for _row in _rows:
        _BY_TITLE.setdefault(_row.title, _row)
ROWS: list[Row] = list(_BY_TITLE.values())
