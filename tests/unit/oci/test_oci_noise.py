"""Whatever comes in, the formats answer with a value or with an error of ours."""

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidReference, WherryError
from wherry.oci import image
from wherry.oci.reference import parse_any, parse_normalized

_NAMES = st.text(st.sampled_from("aA0.-_/:@[]\n é") | st.characters(), max_size=40)
_WORDS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "rootfs",
    "diff_ids",
    "history",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["sha256:" + "a" * 64, 2]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=5),
    max_leaves=20,
)


@given(_NAMES)
def test_names(value: str) -> None:
    """A name is refused, or its full and familiar forms mean itself."""
    try:
        reference = parse_normalized(value)
    except InvalidReference:
        return
    assert parse_normalized(str(reference)) == reference
    assert parse_normalized(reference.familiar()) == reference
    assert "\n" not in str(reference)
    parse_any(value)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_documents(raw: bytes) -> None:
    """A document is refused or read, and what is read is sound."""
    for read in (image.read_manifest, image.read_index, image.read_config):
        with suppress(WherryError):
            read(raw)
