"""A step that came to nothing."""

from wherry.errors import WherryError


class StepFailed(WherryError):
    """A program of a step ended with another code than 0.

    Args:
        args: its words.
        code: what it ended with.
    """

    def __init__(self, args: "tuple[str, ...] | list[str]", code: int) -> None:
        shown = " ".join(args)
        super().__init__(
            f'process "{shown}" did not complete successfully: exit code: {code}', command=shown, code=code
        )

    @property
    def code(self) -> int:
        """What the program ended with."""
        return int(self.facts["code"])

    @property
    def classic(self) -> str:
        """The classic builder's words."""
        return f"The command '{self.facts['command']}' returned a non-zero code: {self.code}"
