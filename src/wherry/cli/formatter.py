"""Lists as Docker prints them: a table, a table of one's own, a template for each row, or JSON."""

from wherry.cli.failure import Failure
from wherry.cli.govalues import Missing, to_json
from wherry.cli.output import columns, out
from wherry.cli.template import Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


class Row:
    """One row: computes a field when it is asked for.

    Args:
        item: what the engine said of it.
        trunc: whether ids and texts are shortened.
    """

    go_type = ""
    fields: "Mapping[str, Callable[[Any], Any]]"

    def __init__(self, item: "Any", *, trunc: bool = True) -> None:
        self.item = item
        self.trunc = trunc

    def field(self, name: str, *arguments: "Any") -> "Any":
        if name not in self.fields:
            if name == "Label" and "Labels" in self.fields:
                return (self.item.get("Labels") or {}).get(arguments[0], "")
            raise Missing(f"can't evaluate field {name} in type {self.go_type}")
        return self.fields[name](self)

    def as_json(self) -> "dict[str, Any]":
        return {name: self.fields[name](self) for name in sorted(self.fields)}


class Probe(Row):
    """A row of nothing, to see which fields a template asks for."""

    def __init__(self, row: "type[Row]") -> None:
        super().__init__({})
        self.go_type = row.go_type
        self.used: set[str] = set()
        self.fields = {name: self._note(name) for name in row.fields}

    def _note(self, name: str) -> "Callable[[Any], Any]":
        def note(_row: Row) -> str:
            self.used.add(name)
            return ""

        return note


class _Headers:
    """Answers every field with its column's title."""

    def __init__(self, titles: "Mapping[str, str]") -> None:
        self.titles = titles

    def field(self, name: str, *arguments: "Any") -> str:
        if name == "Label" and arguments:
            return str(arguments[0]).rpartition(".")[2].replace("-", " ").replace("_", " ")
        return self.titles.get(name, "<no value>")


_SAME: "tuple[Callable[..., Any], int, int | None]" = (lambda value, *_more: value, 1, None)
_HEADER_FUNCTIONS = dict.fromkeys(("json", "title", "lower", "upper", "truncate", "pad", "join", "split"), _SAME)


def render(
    format_: str,
    rows: "Iterable[Row]",
    *,
    table: str,
    titles: "Mapping[str, str]",
    raw: str = "",
    end: str = "\n",
) -> None:
    """Print rows.

    Args:
        format_: what `--format` says; "" and "table" are the usual table.
        rows: the rows.
        table: the usual table's template, cells separated by tabs.
        titles: column titles by field.
        raw: the template of the format "raw", where there is one.
        end: what each line ends with.

    Raises:
        Failure: a template that cannot be read or executed.
    """
    text = format_ or "table"
    if text == "json":
        for row in rows:
            out(to_json(row, escape_html=True) + end)
        return
    if text == "raw" and raw:
        text = raw
    is_table = text.startswith("table")
    if is_table:
        text = text[5:].strip(" \t\r\n") or table
    text = text.strip(" \t\r\n").replace("\\t", "\t").replace("\\n", "\n") if text != raw else text
    try:
        template = Template(text)
        lines = [template.execute(row) for row in rows]
        if is_table:
            head = Template(text, functions=_HEADER_FUNCTIONS).execute(_Headers(titles))
            table_text = columns(piece.split("\t") for line in (head, *lines) for piece in line.split("\n"))
            out(table_text if end == "\n" else table_text.replace("\n", end))
        else:
            out("".join(f"{line}{end}" for line in lines))
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}") from None


def shorten(text: str, width: int) -> str:
    """At most `width` characters, an ellipsis for what is left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(id_: str) -> str:
    """Twelve digits of an id, without its algorithm."""
    return id_.partition(":")[2][:12] if ":" in id_ else id_[:12]


def joined_labels(labels: "Mapping[str, str] | None") -> str:
    """`a=b,c=d`, sorted."""
    return ",".join(f"{name}={value}" for name, value in sorted((labels or {}).items()))
