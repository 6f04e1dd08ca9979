"""Where a process's standard streams lead."""


class Stdio:
    """Descriptors for the child, or a terminal that is made inside the container.

    Args:
        stdin, stdout, stderr: the caller's descriptors; they stay the caller's. Unused with `terminal`.
        terminal: the child makes a terminal in the container's devpts; its master comes back as `Launched.master`.
        preserve: how many descriptors of the caller from 3 on are inherited (`--preserve-fds`).
    """

    __slots__ = ("preserve", "stderr", "stdin", "stdout", "terminal")

    def __init__(
        self, stdin: int = -1, stdout: int = -1, stderr: int = -1, *, terminal: bool = False, preserve: int = 0
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal
        self.preserve = preserve


class Launched:
    """A process that was executed (or that waits for `start`).

    `pid` as the caller sees it, `pidfd` (the caller closes it), `start_time` in clock ticks since boot, `master` of its
    terminal or None, `listener` of its filter or None: where the caller answers its socketcall(2), `warnings`: what
    went wrong without being a reason to fail (a poststart hook).
    """

    __slots__ = ("listener", "master", "pid", "pidfd", "start_time", "warnings")

    def __init__(
        self, pid: int, pidfd: int, start_time: int, master: int | None = None, listener: int | None = None
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.start_time = start_time
        self.master = master
        self.listener = listener
        self.warnings: tuple[str, ...] = ()
