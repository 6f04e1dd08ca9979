"""What lint finds, which rules are on, and how findings are shown.

Rules are switched in three places: `# check=skip=A,B;error=true` at the head of the file (or the build argument
`BUILDKIT_DOCKERFILE_CHECK` in its place), and `# check=skip=A` in a comment above one instruction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wherry.builder.language.errors import DockerfileError, Location, excerpt
from wherry.builder.language.lexer import read_directive
from wherry.builder.lint.rules import RULES, Rule
from wherry.errors import InvalidArgument
from wherry.values.gotext import parse_bool, quote

CHECK_ARG = "BUILDKIT_DOCKERFILE_CHECK"
"""Build argument that takes the place of the file's `# check=` line."""


@dataclass(frozen=True, slots=True)
class LintOptions:
    """Which rules are on.

    Args:
        skip: rules that are off.
        skip_all: all are off, but for the experimental ones that are named.
        experimental: experimental rules that are on.
        experimental_all: all of them are on.
        error: findings fail the build.
    """

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    def allow(self, rule: Rule) -> bool:
        """Whether a rule is on."""
        if rule.experimental:
            return self.experimental_all or rule.name in self.experimental
        return not (self.skip_all or rule.name in self.skip)

    def joined(self, comments: Iterable[str]) -> "LintOptions":
        """These, with what the comments above an instruction switch."""
        for comment in comments:
            directive = read_directive(comment, prefix="")
            if directive is None or directive[0] != "check":
                continue
            try:
                other = parse_options(directive[1].split(" ")[0])
            except InvalidArgument:
                return self
            return LintOptions(
                self.skip | other.skip,
                self.skip_all or other.skip_all,
                self.experimental | other.experimental,
                self.experimental_all or other.experimental_all,
                self.error,
            )
        return self


def parse_options(text: str) -> LintOptions:
    """Read `skip=A,B;experimental=all;error=true`.

    Raises:
        InvalidArgument: a key that is none, or no value; BuildKit's words.
    """
    if not text.strip():
        return LintOptions()
    found: dict[str, frozenset[str]] = {"skip": frozenset(), "experimental": frozenset()}
    error = False
    for part in text.strip().split(";", 2):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            raise InvalidArgument(f"invalid check option {quote(part)}")
        if key in found:
            found[key] = frozenset(name.strip() for name in value.split(","))
        elif key == "error":
            try:
                error = parse_bool(value)
            except ValueError:
                raise InvalidArgument(
                    f"failed to parse check option {quote(part)}: strconv.ParseBool: parsing {quote(value)}: "
                    "invalid syntax"
                ) from None
        else:
            raise InvalidArgument(f"invalid check option {quote(key)}")
    every = frozenset(("all",))
    skip, experimental = found["skip"], found["experimental"]
    return LintOptions(
        frozenset() if skip == every else skip,
        skip == every,
        frozenset() if experimental == every else experimental,
        experimental == every,
        error,
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: its words for this place, and the lines."""

    rule: Rule
    detail: str
    location: Location

    def short(self) -> str:
        """One line, as a build shows it at its end."""
        return f"{self.rule.name}: {self.detail} (line {self.location[0]})"


@dataclass(slots=True)
class LintReport:
    """All findings in a Dockerfile, and the error that ended the reading, if one did."""

    name: str
    source: str
    options: LintOptions = field(default_factory=LintOptions)
    findings: list[Finding] = field(default_factory=list)
    error: DockerfileError | None = None

    def add(self, name: str, location: Location, *parts: str, comments: Sequence[str] = (), hint: str = "") -> None:
        """Note a finding, if its rule is on here.

        Args:
            name: the rule.
            location: the lines.
            parts: what its words need.
            comments: those above the instruction, which may switch rules off.
            hint: what was probably meant.
        """
        rule = RULES[name]
        if self.options.joined(comments).allow(rule):
            detail = rule.text.format(*parts) + (f" (did you mean {hint}?)" if hint else "")
            self.findings.append(Finding(rule, detail, location))

    def failure(self) -> DockerfileError | None:
        """The error that findings are where the file asks for that (`error=true`)."""
        if not self.options.error or not self.findings:
            return None
        names = dict.fromkeys(finding.rule.name for finding in self.findings)
        return DockerfileError(f"lint violation found for rules: {', '.join(names)}")

    def text(self) -> str:
        """Everything for people, as `docker build --check` prints it: findings by line, then the error."""
        out: list[str] = []
        for finding in sorted(self.findings, key=lambda found: found.location[0]):
            link = f" - {finding.rule.url}" if finding.rule.url else ""
            out.append(f"\nWARNING: {finding.rule.name}{link}\n{finding.detail}\n")
            out.append(excerpt(self.source, self.name, [finding.location]))
        return "".join(out)

    def warnings(self) -> list[dict[str, Any]]:
        """The findings as BuildKit's progress messages have them (`warnings`)."""
        return [
            {
                "level": 1,
                "short": finding.short(),
                "detail": [finding.rule.description],
                "url": finding.rule.url,
                "range": [_range(finding.location)],
            }
            for finding in self.findings
        ]

    def document(self) -> dict[str, Any]:
        """The report as BuildKit's lint request answers it."""
        found: dict[str, Any] = {
            "warnings": [
                {
                    "ruleName": finding.rule.name,
                    "description": finding.rule.description,
                    "url": finding.rule.url,
                    "detail": finding.detail,
                    "location": {"ranges": [_range(finding.location)]},
                }
                for finding in self.findings
            ],
            "sources": [{"filename": self.name, "language": "Dockerfile"}],
        }
        if self.error is not None:
            place = [_range(self.error.location)] if self.error.location else []
            found["buildError"] = {"message": self.error.message, "location": {"ranges": place}}
        return found

    def error_text(self) -> str:
        """The error with its place; "" without one."""
        if self.error is None:
            return ""
        place = [self.error.location] if self.error.location else []
        return f"{self.error.message}\n{excerpt(self.source, self.name, place)}"


def _range(location: Location) -> dict[str, Any]:
    return {"start": {"line": location[0]}, "end": {"line": location[1]}}
