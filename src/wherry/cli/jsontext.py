"""JSON as text, spaced anew without being decoded: numbers and escapes stay as the engine wrote them."""

_INDENT = "    "


def _pieces(data: bytes) -> "list[str]":
    """Strings, numbers and words, and the punctuation between them."""
    text = data.decode("utf-8", "replace")
    pieces: list[str] = []
    i, length = 0, len(text)
    while i < length:
        c = text[i]
        if c == '"':
            end = text.index('"', i + 1)
            while True:
                # a quote behind an odd number of backslashes does not end it
                slashes = end - 1
                while text[slashes] == "\\":
                    slashes -= 1
                if (end - 1 - slashes) % 2 == 0:
                    break
                end = text.index('"', end + 1)
            pieces.append(text[i : end + 1])
            i = end + 1
        elif c in "{}[],:":
            pieces.append(c)
            i += 1
        elif c in " \t\r\n":
            i += 1
        else:
            end = i + 1
            while end < length and text[end] not in ' \t\r\n{}[],:"':
                end += 1
            pieces.append(text[i:end])
            i = end
    return pieces


def squeezed(data: bytes) -> str:
    """Without any space."""
    return "".join(_pieces(data))


def indented(data: bytes, step: str = _INDENT) -> str:
    """Each value on its line, four spaces (or another `step`) a level; empty objects and arrays stay on theirs."""
    found: list[str] = []
    depth = 0
    opened = False
    for piece in _pieces(data):
        if opened and piece not in ("}", "]"):
            depth += 1
            found.append("\n" + step * depth)
        if piece in ("}", "]") and not opened:
            depth -= 1
            found.append("\n" + step * depth)
        opened = piece in ("{", "[")
        if piece == ",":
            found.append(",\n" + step * depth)
        elif piece == ":":
            found.append(": ")
        else:
            found.append(piece)
    return "".join(found)
