"""Run a bundle: an OCI runtime, as a library for monitors and as the command `wherry-runtime`.

Describe, then do: a configuration becomes a plan of plain values, and one executor carries it out in the child.

    plan.py            a container as values: mounts, devices, ids, namespaces    mount_options.py  sysctl.py
    process_plan.py    a process as values: arguments, limits, capabilities       capabilities.py
    launch.py          start a container: the parent's side                       sync.py  their conversation
    execute.py         start a container: the child's side
    rootfs.py          mounts, masks, the way into the root                       devices.py  device files, console
    become.py          the last steps before the exec, for start and exec alike   command.py  find and execute
    join.py            a further process in a running container: the parent's side
    joiner.py          the same: the child's side                                 last_calls.py  not for its filter
    hooks.py           OCI hooks                                                  stdio.py  what goes in and comes out
    cgroups/           limits                                                     seccomp*.py  system-call filters
    socketcall.py      which processes may make sockets by socketcall(2)          caller.py  stand in for a process
    cli*.py            wherry-runtime: arguments.py, state.py, default_spec.py, foreground.py are its parts

Import budget: what forks and enters containers loads nothing heavy (see the test), and after the root is entered
nothing at all.
"""
