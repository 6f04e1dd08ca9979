"""Executing Go templates: `{{.Field}}`, pipelines, functions, `if`, `range`, `with`; errors in Go's words."""

from wherry.cli.govalues import NO_VALUE, Missing, Struct, is_true, shown, type_name
from wherry.cli.template_funcs import FUNCTIONS, CallError
from wherry.cli.template_parse import Node, Parser, TemplateError
from wherry.values.gotext import quote as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Function = tuple[Callable[..., Any], int, int | None]

__all__ = ["Template", "TemplateError"]


class _Break(Exception):
    """`{{break}}`"""


class _Continue(Exception):
    """`{{continue}}`"""


_ABSENT = object()


class Template:
    """A parsed template.

    Args:
        text: the template.
        name: what errors call it; Docker's have no name.
        functions: functions beside the usual ones, or instead of them.
        strict: a missing map entry is an error (`missingkey=error`), not "<no value>".
    """

    def __init__(
        self,
        text: str,
        *,
        name: str = "",
        functions: "Mapping[str, Function] | None" = None,
        strict: bool = False,
    ) -> None:
        self.name = name
        self.text = text
        self.strict = strict
        self.functions: Mapping[str, Function] = {**FUNCTIONS, **functions} if functions else FUNCTIONS
        self.body = Parser(text, name, set(self.functions)).parse()

    def execute(self, data: "Any") -> str:
        """Apply it to a value. Raises `TemplateError`."""
        run = _Execution(self, data)
        run.walk(data, self.body)
        return "".join(run.pieces)


class _Execution:
    def __init__(self, template: Template, data: "Any") -> None:
        self.template = template
        self.pieces: list[str] = []
        self.variables: list[tuple[str, Any]] = [("$", data)]

    def fail(self, node: Node, message: str) -> TemplateError:
        text = self.template.text[: node.at]
        line = text.count("\n") + 1
        column = len((text[text.rfind("\n") + 1 :]).encode("utf-8", "replace"))
        name = self.template.name
        return TemplateError(f"template: {name}:{line}:{column}: executing {quoted(name)} at <{node}>: {message}")

    # -- statements

    def walk(self, dot: "Any", body: "Sequence[Node]") -> None:
        for node in body:
            kind = node.kind
            if kind == "text":
                self.pieces.append(node.value)
            elif kind == "break":
                raise _Break
            elif kind == "continue":
                raise _Continue
            else:
                assert node.pipe is not None
                mark = len(self.variables)
                value = self.pipe(dot, node.pipe, declare=kind != "range")
                if kind == "action":
                    if not node.pipe.declares:
                        self.pieces.append(shown(value))
                    continue
                if kind == "range":
                    self.range(dot, node, value)
                elif is_true(value):
                    self.walk(value if kind == "with" else dot, node.parts)
                else:
                    self.walk(dot, node.other)
                del self.variables[mark:]

    def range(self, dot: "Any", node: Node, value: "Any") -> None:
        assert node.pipe is not None
        if isinstance(value, dict):
            pairs: list[tuple[Any, Any]] = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(number, number) for number in range(value)]
        elif value is None or value is NO_VALUE:
            pairs = []
        else:
            raise self.fail(node.pipe, f"range can't iterate over {shown(value)}")
        mark = len(self.variables)
        names = node.pipe.declares
        for key, item in pairs:
            for name, one in zip(names, (key, item) if len(names) > 1 else (item,), strict=False):
                if node.pipe.assigns:
                    self.assign(name, one)
                else:
                    self.variables.append((name, one))
            try:
                self.walk(item, node.parts)
            except _Continue:
                continue
            except _Break:
                break
            finally:
                del self.variables[mark:]
        if not pairs:
            self.walk(dot, node.other)

    def assign(self, name: str, value: "Any") -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return

    # -- pipelines

    def pipe(self, dot: "Any", pipe: Node, *, declare: bool = True) -> "Any":
        value: Any = _ABSENT
        for command in pipe.parts:
            value = self.command(dot, command, value)
        if declare:
            for name in pipe.declares:
                if pipe.assigns:
                    self.assign(name, value)
                else:
                    self.variables.append((name, value))
        return value

    def command(self, dot: "Any", command: Node, final: "Any") -> "Any":
        first, *rest = command.parts
        if first.kind == "function":
            return self.function(dot, first, command, rest, final)
        if first.kind in ("field", "variable", "chain"):
            return self.operand(dot, first, rest, final)
        if rest or final is not _ABSENT:
            raise self.fail(first, f"can't give argument to non-function {first}")
        if first.kind == "nil":
            raise self.fail(first, "nil is not a command")
        return self.operand(dot, first)

    def operand(self, dot: "Any", node: Node, arguments: "Sequence[Node]" = (), final: "Any" = _ABSENT) -> "Any":
        kind = node.kind
        if kind == "dot":
            return dot
        if kind in ("string", "number"):
            return node.value[0]
        if kind == "bool":
            return node.value
        if kind == "nil":
            return None
        if kind == "pipe":
            return self.pipe(dot, node)
        if kind == "function":
            return self.function(dot, node, node, (), _ABSENT)
        if kind == "field":
            receiver, names = dot, node.value
        elif kind == "variable":
            receiver = next(value for name, value in reversed(self.variables) if name == node.value[0])
            names = node.value[1:]
        else:
            receiver, names = self.operand(dot, node.parts[0]), node.value
        values = [self.operand(dot, part) for part in arguments]
        if final is not _ABSENT:
            values.append(final)
        if not names and values:
            raise self.fail(node, f"can't give argument to non-function {node}")
        for index, name in enumerate(names):
            receiver = self.field(node, receiver, name, values if index == len(names) - 1 else [])
        return receiver

    def field(self, node: Node, receiver: "Any", name: str, arguments: "list[Any]") -> "Any":
        if receiver is NO_VALUE:
            raise self.fail(node, f"nil data; no entry for key {quoted(name)}")
        if isinstance(receiver, dict):
            if arguments:
                raise self.fail(node, f"{name} is not a method but has arguments")
            if name in receiver:
                value = receiver[name]
                # null in undecoded JSON is an interface of nothing, which Go prints as no value
                return NO_VALUE if value is None and self.template.strict else value
            if self.template.strict:
                raise self.fail(node, f"map has no entry for key {quoted(name)}")
            return NO_VALUE
        try:
            if isinstance(receiver, Struct):
                if not arguments:
                    return receiver.field(name)
                receiver.field(name)
                raise self.fail(node, f"{name} has arguments but cannot be invoked as function")
            method = getattr(receiver, "field", None)
            if method is not None:
                return method(name, *arguments)
        except Missing as error:
            raise self.fail(node, str(error)) from None
        except TypeError:
            raise self.fail(node, f"wrong number of args for {name}") from None
        if receiver is None:
            raise self.fail(node, f"nil pointer evaluating interface {{}}.{name}")
        raise self.fail(node, f"can't evaluate field {name} in type {type_name(receiver)}")

    def function(self, dot: "Any", node: Node, command: Node, parts: "Sequence[Node]", final: "Any") -> "Any":
        name = node.value
        if name in ("and", "or"):
            # these stop at the first operand that decides
            if not parts and final is _ABSENT:
                raise self.fail(node, f"wrong number of args for {name}: want at least 1 got 0")
            value: Any = None
            for part in parts:
                value = self.operand(dot, part)
                if is_true(value) == (name == "or"):
                    return value
            return value if final is _ABSENT else final
        arguments = [self.operand(dot, part) for part in parts]
        if final is not _ABSENT:
            arguments.append(final)
        function, least, most = self.template.functions[name]
        if len(arguments) < least or (most is not None and len(arguments) > most):
            want = f"at least {least}" if most is None else str(most)
            raise self.fail(node, f"wrong number of args for {name}: want {want} got {len(arguments)}")
        try:
            return function(*arguments)
        except CallError as error:
            raise self.fail(command, f"error calling {name}: {error}") from None
        except (TypeError, AttributeError, ValueError) as error:
            kinds = ", ".join(type_name(argument) for argument in arguments)
            raise self.fail(command, f"wrong type for {name}: {kinds} ({error})") from None
