"""`search`: an index by words, or the tags of a repository."""

from wherry.cli import credentials
from wherry.cli.commands.common import FILTER, FORMAT
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Row, render, shorten
from wherry.cli.output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TITLES = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
}


def _description(row: Row) -> str:
    text = str(row.item.get("description") or "").replace("\n", " ").replace("\r", " ")
    return shorten(text, 45) if row.trunc else text


_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "Name": lambda row: row.item["name"],
    "Description": _description,
    "StarCount": lambda row: str(row.item.get("star_count", 0)),
    "IsOfficial": lambda row: "[OK]" if row.item.get("is_official") else "",
}


class SearchRow(Row):
    """One result."""

    go_type = "*registry.searchContext"
    fields = _FIELDS

    def as_json(self) -> "dict[str, Any]":
        official = "true" if self.item.get("is_official") else "false"
        return {**super().as_json(), "IsOfficial": official}


def _search(command: Invocation) -> None:
    term = command.args[0]
    headers = credentials.header(term if "/" in term else f"{term}/")
    client = command.client
    if command["list-tags"]:
        answer = client.request("GET", "/wherry/v1/tags", {"name": term}, headers=headers).json()
        for tag in answer["Tags"]:
            line(tag)
        return
    items = client.request(
        "GET",
        "/images/search",
        {
            "term": term,
            "limit": command["limit"] if command["limit"] > 0 else None,
            "filters": command.values.filters() or None,
        },
        headers=headers,
    ).json()
    rows = [SearchRow(item, trunc=not command["no-trunc"]) for item in items]
    render(
        command["format"], rows, table="{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}", titles=_TITLES
    )


SEARCH = Command(
    "[OPTIONS] TERM",
    "Search Docker Hub for images",
    _search,
    (
        FILTER,
        FORMAT,
        Flag("limit", "", "int", "Max number of search results"),
        Flag("list-tags", "", "bool", "List the tags of repository TERM instead"),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
    ),
    arguments=(1, 1),
)
COMMANDS = {"search": SEARCH}
