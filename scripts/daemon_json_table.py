"""Write the table of docs/daemon-json.md anew from `wherry.daemon_keys`."""

from pathlib import Path

from wherry.daemon_keys import KEYS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "daemon-json.md"
HEAD = "| key | | |\n|---|---|---|\n"


def main() -> None:
    """Replace everything below the table's head."""
    text = PAGE.read_text()
    rows = "".join(f"| `{name}` | {key.verdict} | {key.reason} |\n" for name, key in sorted(KEYS.items()))
    PAGE.write_text(text[: text.index(HEAD) + len(HEAD)] + rows)


if __name__ == "__main__":
    main()
