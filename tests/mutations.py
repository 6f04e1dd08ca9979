"""One-line mutations of Python sources: found in the syntax tree, and picked by a seed.

`tests/mutation.py` judges them.
"""

import ast
import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# in the order in which a package's mutations take turns
KINDS = ("comparison", "logic", "negation", "constant", "return", "call", "truth")
_OPPOSITE = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", ">="),
    ast.GtE: (">=", "<"),
    ast.Gt: (">", "<="),
    ast.LtE: ("<=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
# what nobody is promised: a line of the log
_LOGS = re.compile(r"(self\.)?_?log(ger|ging)?\.(debug|info|warning|error|exception|log)")


@dataclass(frozen=True, slots=True)
class Mutation:
    """One line of one file, written otherwise.

    Attributes:
        file: its path below the project's root.
        line: the number of the line, from 1.
        kind: one of `KINDS`.
        before: the line, without its end.
        after: what is put there.
    """

    file: str
    line: int
    kind: str
    before: str
    after: str

    def applied(self, source: str) -> str:
        """The source with this one line changed."""
        lines = source.splitlines(keepends=True)
        end = lines[self.line - 1][len(self.before) :]
        if lines[self.line - 1] != self.before + end or end not in ("", "\n"):
            raise ValueError(f"{self.file}:{self.line} is another line now")
        lines[self.line - 1] = self.after + end
        return "".join(lines)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.kind})\n  - {self.before.strip()}\n  + {self.after.strip()}"


def found(file: str, source: str) -> list[Mutation]:
    """Candidates for mutations of a source; `real` tells which of them compile to something else than it does.

    Left out are annotations, decorators, `__slots__`, f-strings, what only a type checker reads, lines of the log, and
    a `return` of what is false already.
    """
    # positions count bytes; a line break of str.splitlines that is none of Python's would shift the numbers
    lines = [line.encode() for line in source.split("\n")]
    if len(lines) != len(source.splitlines()) + source.endswith("\n"):
        return []
    made = {}
    for kind, (line, begin, end), text in _changes(ast.parse(source), lines):
        old = lines[line - 1]
        new = old[:begin] + text.encode() + old[end:]
        mutation = Mutation(file, line, kind, old.decode(), new.decode())
        made[line, mutation.after] = mutation
    return list(made.values())


def real(mutation: Mutation, source: str) -> bool:
    """Whether the source with this mutation compiles, and not to what it was before."""
    try:
        return ast.dump(ast.parse(mutation.applied(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def picked(root: Path, packages: Sequence[str], seed: int, count: int) -> list[Mutation]:
    """As many mutations, shared equally among directories below `root`, and among the kinds.

    What is taken follows from the seed and the lines themselves: a change elsewhere seldom moves a pick. No line is
    taken twice.
    """
    chosen: list[Mutation] = []
    for number, package in enumerate(packages):
        wanted = count // len(packages) + (number < count % len(packages))
        all_of: dict[str, list[Mutation]] = {kind: [] for kind in KINDS}
        for path in sorted((root / package).rglob("*.py")):
            for mutation in found(str(path.relative_to(root)), path.read_text()):
                all_of[mutation.kind].append(mutation)
        for mutations in all_of.values():
            mutations.sort(key=lambda one: _rank(seed, one), reverse=True)
        taken: set[tuple[str, int]] = set()
        turn = 0
        while len(taken) < wanted and any(all_of.values()):
            mutations = all_of[KINDS[turn % len(KINDS)]]
            turn += 1
            while mutations:
                mutation = mutations.pop()
                free = (mutation.file, mutation.line) not in taken
                if free and real(mutation, (root / mutation.file).read_text()):
                    taken.add((mutation.file, mutation.line))
                    chosen.append(mutation)
                    break
    return chosen


def _rank(seed: int, mutation: Mutation) -> tuple[bytes, int]:
    words = (str(seed), mutation.file, mutation.kind, mutation.before.strip(), mutation.after.strip())
    return hashlib.sha256("\0".join(words).encode()).digest(), mutation.line


_Span = tuple[int, int, int]


def _changes(tree: ast.AST, lines: list[bytes]) -> Iterator[tuple[str, _Span, str]]:
    """Kind, place (line, first byte, byte behind the last) and new text of each change."""
    for node in _executable(tree):
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                old, new = _OPPOSITE[type(op)]
                yield from _between(lines, left, right, old, "comparison", new)
            case ast.BoolOp(op=op, values=values):
                old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                for left, right in itertools.pairwise(values):
                    yield from _between(lines, left, right, old, "logic", new)
            case ast.UnaryOp(op=ast.Not()):
                yield "negation", (node.lineno, node.col_offset, node.col_offset + len("not ")), ""
            case ast.Constant(value=bool() as truth):
                yield "truth", _span(node), str(not truth)
            case ast.Constant(value=int() as number):
                yield "constant", _span(node), str(number + 1)
                yield "constant", _span(node), str(number - 1)
            case ast.Return(value=ast.expr() as value) if node.lineno == node.end_lineno:
                if not (isinstance(value, ast.Constant) and not value.value):
                    yield "return", _span(value), "None"
            case ast.Expr(value=ast.Call() | ast.Await()) if node.lineno == node.end_lineno:
                yield "call", _span(node), "pass"
            case _:
                pass


def _span(node: ast.expr | ast.stmt) -> _Span:
    assert node.end_col_offset is not None
    return node.lineno, node.col_offset, node.end_col_offset


def _between(
    lines: list[bytes], left: ast.expr, right: ast.expr, old: str, kind: str, new: str
) -> Iterator[tuple[str, _Span, str]]:
    """The change of an operator that stands on one line with the ends of its operands."""
    assert left.end_col_offset is not None
    if left.end_lineno != right.lineno:
        return
    space = lines[right.lineno - 1][left.end_col_offset : right.col_offset].decode()
    at = space.find(old)
    if at >= 0:
        begin = left.end_col_offset + at
        yield kind, (right.lineno, begin, begin + len(old)), new


def _executable(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is in it, without what is never executed, or has no place of its own (f-strings before 3.12)."""
    match node:
        case ast.JoinedStr():
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Assign(targets=[ast.Name(id="__slots__")]):
            return
        case ast.AnnAssign(value=value):
            if value is not None:
                yield from _executable(value)
            return
        case ast.arg():
            return
        case ast.Expr() if _LOGS.match(ast.unparse(node)):
            return
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node
            for part in (node.args, *node.body):
                yield from _executable(part)
            return
        case ast.ClassDef():
            for statement in node.body:
                yield from _executable(statement)
            return
        case _:
            pass
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _executable(child)
