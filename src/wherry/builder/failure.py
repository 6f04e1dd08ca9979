"""A step that came to nothing."""

from wherry.errors import NotFound, WherryError
from wherry.snapshots.selecting import inside
from wherry.values.gotext import quote


class StepFailed(WherryError):
    """A program of a step ended with another code than 0.

    Args:
        args: its words.
        code: what it ended with.
    """

    def __init__(self, args: "tuple[str, ...] | list[str]", code: int) -> None:
        shown = " ".join(args)
        super().__init__(
            f"process {quote(shown)} did not complete successfully: exit code: {code}", command=shown, code=code
        )

    @property
    def code(self) -> int:
        """What the program ended with."""
        return int(self.facts["code"])

    @property
    def classic(self) -> str:
        """The classic builder's words."""
        return f"The command '{self.facts['command']}' returned a non-zero code: {self.code}"


class SourceMissing(NotFound):
    """A COPY or ADD names what is not there.

    Args:
        path: as written.
        command: `COPY` or `ADD`.
        in_context: it was looked for in the build context, not in a stage or image.
    """

    def __init__(self, path: str, command: str, *, in_context: bool) -> None:
        shown = "/" + inside(path)
        super().__init__(
            f'failed to compute cache key: failed to calculate checksum of ref: "{shown}": not found',
            path=path,
            command=command,
            in_context=in_context,
        )

    @property
    def classic(self) -> str:
        """The classic builder's words."""
        path, command = self.facts["path"], self.facts["command"]
        if self.facts["in_context"]:
            return (
                f"{command} failed: file not found in build context or excluded by .dockerignore: "
                f"stat {path.lstrip('/')}: file does not exist"
            )
        return f"{command} failed: stat {inside(path)}: file does not exist"
