"""Descriptions: Markdown to HTML that is safe to show. Raw HTML in it is text; what is left passes an allow-list."""

from functools import lru_cache
from typing import Final

import nh3
from markdown_it import MarkdownIt

_TAGS: Final = set(
    "h1 h2 h3 h4 h5 h6 p br hr a strong em s code pre blockquote ul ol li table thead tbody tr th td".split()
)
_ATTRIBUTES: Final = {"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}}


@lru_cache(maxsize=64)
def render(text: str) -> str:
    """HTML of a description. Images are left out: they would tell their host who reads."""
    html = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"]).render(text)
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )
