"""Making the first move into a cgroup cheap, by paying for it while something else goes on.

Moving a task takes a lock that every fork reads; the first move after an idle moment waits for a whole grace period of
the kernel (5 to 20 ms), and moves within the next 10 ms or so do not wait at all. A move to where one already is takes
the same lock. So whoever learns that a container is about to start (wherryd, at create and at start, in a thread)
calls `prime_migration`, and the monitor's `add` a moment later is free. On pure v2, processes are born in place
(CLONE_INTO_CGROUP) and nothing waits.
"""

from wherry.errors import KernelError
from wherry.runtime.cgroups import files
from wherry.runtime.cgroups.hierarchies import mounted


def prime_migration() -> bool:
    """Move this process to the cgroup that it is in; blocks for up to 20 ms. Never fails: False where it cannot."""
    found = mounted()
    if found.mode not in ("v1", "hybrid"):
        return False
    for directory in found.directories(files.read_or("/proc/self/cgroup")):
        try:
            files.write(f"{directory}/cgroup.procs", "0")
        except KernelError:
            continue  # another hierarchy may show us where we are
        return True
    return False
