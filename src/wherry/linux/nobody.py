"""What a process does before it reads strangers' bytes: it gives up every power, for good."""

import os
import resource

from wherry.linux.process import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, capset, drop_bounding, prctl

_NOBODY = 65534


def become_nobody() -> None:
    """Give up root, all capabilities and core dumps; take as many descriptors as the hard limit allows.

    Raises:
        OSError, KernelError: the process may not.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups([])
    drop_bounding(0)
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    capset(0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
