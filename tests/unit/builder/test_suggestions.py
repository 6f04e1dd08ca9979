"""Hints for words that are near a known one."""

from wherry.builder.language.suggestions import suggest


def test_suggestions() -> None:
    """One that is at most two letters off, in the case that is written; nothing for a word that is too long."""
    names = ("RUN", "COPY", "CMD")
    assert suggest("CPOY", names) == "COPY"
    assert suggest("cop", names, case_sensitive=False) == "copy"
    assert suggest("RUN", names) == ""
    assert suggest("ENTIRELY", names) == ""
    assert suggest("x" * 10**6, names) == ""
