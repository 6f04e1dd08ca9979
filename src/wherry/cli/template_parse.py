"""The grammar of Go's text/template, as far as format strings use it: text into a tree of small nodes.

Not read: `define`, `template`, `block`. Positions are kept, because users see them in errors.
"""

from wherry.values.gotext import quote as quoted
from wherry.values.gotext import unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Token = tuple[str, str, int]


class TemplateError(Exception):
    """A template that cannot be read, or cannot be executed; the text is Go's."""


class Node:
    """One node of the tree.

    Attributes:
        kind: `text if range with action break continue` (statements), `pipe command` and
            `dot field variable chain function string number bool nil pipe` (operands).
        at: offset in the template.
        value: what the kind needs: text, names, a number.
        parts: child nodes: commands of a pipe, operands of a command, body and else-body of a statement.
        declares: names of variables that a pipe declares or assigns.
        assigns: whether it is `=`.
    """

    __slots__ = ("assigns", "at", "declares", "kind", "other", "parts", "pipe", "value")

    def __init__(self, kind: str, at: int, value: "Any" = None, parts: "list[Node] | None" = None) -> None:
        self.kind = kind
        self.at = at
        self.value = value
        self.parts: list[Node] = parts or []
        self.other: list[Node] = []
        self.pipe: Node | None = None
        self.declares: list[str] = []
        self.assigns = False

    def __str__(self) -> str:
        kind = self.kind
        if kind == "field":
            return "".join(f".{name}" for name in self.value)
        if kind == "variable":
            return ".".join(self.value)
        if kind == "chain":
            return f"({self.parts[0]})" + "".join(f".{name}" for name in self.value)
        if kind == "command":
            return " ".join(f"({part})" if part.kind == "pipe" else str(part) for part in self.parts)
        if kind == "pipe":
            return " | ".join(str(part) for part in self.parts)
        if kind == "dot":
            return "."
        if kind in ("string", "number"):
            return str(self.value[1])
        return {"bool": "true" if self.value else "false", "nil": "nil"}.get(kind, str(self.value))


_SPACE = " \t\r\n"


class Parser:
    """Reads one template.

    Args:
        text: the template.
        name: what errors call it.
        functions: names that may be called.
    """

    def __init__(self, text: str, name: str, functions: "frozenset[str] | set[str]") -> None:
        self.text = text
        self.name = name
        self.functions = functions
        self.position = 0
        self.tokens: list[Token] = []
        self.variables = ["$"]
        self.loops = 0
        self.trim_next = False

    def fail(self, message: str, at: int | None = None) -> TemplateError:
        line = self.text.count("\n", 0, self.position if at is None else at) + 1
        return TemplateError(f"template: {self.name}:{line}: {message}")

    # -- text and actions

    def parse(self) -> "list[Node]":
        """The whole template's statements. Raises `TemplateError`."""
        body, end = self._body()
        if end:
            raise self.fail(f"unexpected {{{{{end}}}}}")
        return body

    def _body(self) -> "tuple[list[Node], str]":
        """Statements up to `end` or `else`, and which of them ended it ("" at the end of the text)."""
        body: list[Node] = []
        scope = len(self.variables)
        while True:
            start = self.text.find("{{", self.position)
            literal = self.text[self.position : start if start >= 0 else len(self.text)]
            if self.trim_next:
                literal = literal.lstrip(_SPACE)
                self.trim_next = False
            at = self.position
            if start < 0:
                self.position = len(self.text)
                if literal:
                    body.append(Node("text", at, literal))
                return body, ""
            self.position = start + 2
            after = self.text[self.position : self.position + 2]
            if after[:1] == "-" and after[1:] in tuple(_SPACE):
                literal = literal.rstrip(_SPACE)
                self.position += 2
            if literal:
                body.append(Node("text", at, literal))
            if self.text.startswith("/*", self.position):
                self._comment()
                continue
            self._tokenize()
            end = self._statement(body)
            if end:
                del self.variables[scope:]
                return body, end

    def _comment(self) -> None:
        end = self.text.find("*/", self.position)
        if end < 0:
            raise self.fail("unclosed comment")
        rest = self.text[end + 2 :]
        if rest.startswith("}}"):
            self.position = end + 4
        elif len(rest) > 3 and rest[0] in _SPACE and rest[1:4] == "-}}":
            self.position = end + 6
            self.trim_next = True
        else:
            raise self.fail("comment ends before closing delimiter")

    def _tokenize(self) -> None:
        """Split one action into tokens (kind, text, offset), up to and with its closing braces."""
        text, tokens, depth = self.text, [], 0
        i = self.position
        while True:
            if i >= len(text):
                raise self.fail("unclosed action")
            c = text[i]
            if text.startswith("}}", i):
                if depth:
                    raise self.fail("unclosed left paren")
                self.position = i + 2
                break
            if c in _SPACE and text.startswith("-}}", i + 1):
                self.trim_next = True
                self.position = i + 4
                break
            start = i
            if c in _SPACE:
                while i < len(text) and text[i] in _SPACE and not (text.startswith("-}}", i + 1)):
                    i += 1
                if i > start:
                    tokens.append(("space", " ", start))
                continue
            if c in '"`':
                i = self._string_end(i)
                tokens.append(("string", text[start:i], start))
            elif c == "'":
                i = self._string_end(i)
                tokens.append(("number", text[start:i], start))
            elif (
                c.isdigit()
                or (c in "+-" and text[i + 1 : i + 2].isdigit())
                or (c == "." and text[i + 1 : i + 2].isdigit())
            ):
                i += 1
                while i < len(text) and (text[i].isalnum() or text[i] in "._"):
                    i += 1
                tokens.append(("number", text[start:i], start))
            elif c in ".$" or c.isalpha() or c == "_":
                i += 1
                while i < len(text) and (text[i].isalnum() or text[i] == "_"):
                    i += 1
                word = text[start:i]
                kind = "word" if c not in ".$" else "variable" if c == "$" else "field" if len(word) > 1 else "dot"
                tokens.append((kind, word, start))
            elif text.startswith(":=", i):
                i += 2
                tokens.append((":=", ":=", start))
            elif c in "=|,()":
                depth += (c == "(") - (c == ")")
                if depth < 0:
                    raise self.fail("unexpected right paren")
                i += 1
                tokens.append((c, c, start))
            else:
                raise self.fail(
                    f"unexpected {quoted(c)} in operand"
                    if c in "{}"
                    else f"unrecognized character in action: {_character(c)}"
                )
        self.tokens = tokens

    def _string_end(self, start: int) -> int:
        mark = self.text[start]
        i = start + 1
        while i < len(self.text):
            if self.text[i] == mark:
                return i + 1
            if mark != "`" and self.text[i] == "\n":
                break
            i += 2 if self.text[i] == "\\" and mark != "`" else 1
        what = {'"': "quoted string", "`": "raw quoted string"}.get(mark, "character constant")
        raise self.fail(f"unterminated {what}")

    # -- statements

    def _statement(self, body: "list[Node]") -> str:
        self._skip_space()
        kind, word, at = self.tokens[0] if self.tokens else ("", "", self.position)
        if kind == "word" and word in ("if", "range", "with"):
            self.tokens.pop(0)
            body.append(self._control(word, at))
            return ""
        if kind == "word" and word in ("end", "else"):
            self.tokens.pop(0)
            self._skip_space()
            if word == "end" and self.tokens:
                raise self.fail(f"unexpected {_shown(self.tokens[0])} in end")
            return word
        if kind == "word" and word in ("break", "continue"):
            if not self.loops:
                raise self.fail(f"{{{{{word}}}}} outside {{{{range}}}}")
            body.append(Node(word, at))
            return ""
        if kind == "word" and word in ("define", "template", "block"):
            raise self.fail(f"unexpected {{{{{word}}}}}")
        node = Node("action", at)
        node.pipe = self._pipeline("command")
        body.append(node)
        return ""

    def _control(self, word: str, at: int) -> Node:
        node = Node(word, at)
        scope = len(self.variables)
        node.pipe = self._pipeline(word)
        if word == "range":
            self.loops += 1
        node.parts, end = self._body()
        if word == "range":
            self.loops -= 1
        if end == "else":
            self._skip_space()
            following = self.tokens[0][1] if self.tokens else ""
            if following == word and word in ("if", "with"):
                # `else if` nests: one `end` closes both
                nested_at = self.tokens.pop(0)[2]
                node.other = [self._control(word, nested_at)]
                del self.variables[scope:]
                return node
            if self.tokens:
                raise self.fail(f"unexpected {_shown(self.tokens[0])} in else")
            node.other, end = self._body()
            if end == "else":
                raise self.fail("expected end; found {{else}}")
        if end != "end":
            raise self.fail("unexpected EOF")
        del self.variables[scope:]
        return node

    # -- pipelines

    def _skip_space(self) -> None:
        while self.tokens and self.tokens[0][0] == "space":
            self.tokens.pop(0)

    def _peek(self, index: int = 0) -> "Token":
        solid = [token for token in self.tokens if token[0] != "space"]
        return solid[index] if index < len(solid) else ("end", "", self.position)

    def _pipeline(self, context: str, closing: str = "end") -> Node:
        self._skip_space()
        pipe = Node("pipe", self.tokens[0][2] if self.tokens else self.position)
        names: list[str] = []
        while self._peek()[0] == "variable":
            mark = self._peek(1)[0]
            if mark not in (":=", "=", ",") or (mark == "," and (context != "range" or names)):
                break
            names.append(self._peek()[1])
            for _ in range(2):
                self._skip_space()
                self.tokens.pop(0)
            if mark != ",":
                pipe.assigns = mark == "="
                break
        for name in names:
            if pipe.assigns and name not in self.variables:
                raise self.fail(f"undefined variable {quoted(name)}")
        pipe.declares = names
        while True:
            command = self._command(closing)
            if command.parts:
                pipe.parts.append(command)
                if len(pipe.parts) > 1 and command.parts[0].kind in ("bool", "dot", "nil", "number", "string"):
                    raise self.fail(f"non executable command in pipeline stage {len(pipe.parts)}")
            elif not pipe.parts or self._peek()[0] == "|":
                raise self.fail(f"missing value for {context}")
            kind = self._peek()[0]
            if kind == "|":
                self._skip_space()
                self.tokens.pop(0)
                if self._peek()[0] in ("end", ")"):
                    raise self.fail(f"missing value for {context}")
                continue
            if kind != closing:
                raise self.fail(f"unexpected {_shown(self._peek())} in {context}")
            break
        if closing == ")":
            self._skip_space()
            self.tokens.pop(0)
        if not pipe.assigns:
            self.variables += names
        return pipe

    def _command(self, closing: str) -> Node:
        self._skip_space()
        command = Node("command", self.tokens[0][2] if self.tokens else self.position)
        while True:
            self._skip_space()
            if not self.tokens or self.tokens[0][0] in ("|", closing):
                return command
            command.parts.append(self._operand())
            if self.tokens and self.tokens[0][0] not in ("space", "|", ")", closing):
                raise self.fail(f"unexpected {_shown(self.tokens[0])} in operand")

    def _operand(self) -> Node:
        kind, word, at = self.tokens.pop(0)
        node: Node
        if kind == "dot":
            node = Node("dot", at)
        elif kind == "field":
            node = Node("field", at, [word[1:]])
        elif kind == "variable":
            if word not in self.variables:
                raise self.fail(f"undefined variable {quoted(word)}")
            node = Node("variable", at, [word])
        elif kind == "string":
            node = Node("string", at, (_unquoted(word, self), word))
        elif kind == "number":
            node = Node("number", at, (self._number(word), word))
        elif kind == "word":
            if word in ("true", "false"):
                node = Node("bool", at, word == "true")
            elif word == "nil":
                node = Node("nil", at)
            elif word in self.functions:
                node = Node("function", at, word)
            else:
                raise self.fail(f"function {quoted(word)} not defined")
        elif kind == "(":
            node = self._pipeline("parenthesized pipeline", ")")
        else:
            raise self.fail(f"unexpected {_shown((kind, word, at))} in operand")
        names = []
        first = 0
        while self.tokens and self.tokens[0][0] == "field":
            _, field, field_at = self.tokens.pop(0)
            first = first or field_at
            names.append(field[1:])
        if not names:
            return node
        if node.kind in ("field", "variable"):
            return Node(node.kind, first, [*node.value, *names])
        if node.kind in ("bool", "string", "number", "nil", "dot"):
            raise self.fail(f"unexpected . after term {quoted(str(node))}")
        return Node("chain", first, names, [node])

    def _number(self, word: str) -> "int | float":
        if word[0] == "'":
            character = _unquoted(word, self)
            if len(character) != 1:
                raise self.fail(f"malformed character constant: {word}")
            return ord(character)
        for convert in (lambda text: int(text, 0), float):
            try:
                return convert(word)
            except ValueError:
                continue
        raise self.fail(f"bad number syntax: {quoted(word)}")


def _unquoted(word: str, parser: Parser) -> str:
    try:
        return unquote(word)
    except ValueError:
        raise parser.fail("invalid syntax") from None


def _character(c: str) -> str:
    return f"U+{ord(c):04X} {quoted(c)[0:0]}'{c}'"


def _shown(token: "Token") -> str:
    kind, text, _ = token
    if kind == "end":
        return "EOF"
    return f"<{text}>" if kind == "word" else quoted(text)
