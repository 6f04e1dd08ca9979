"""Processes that wherryd does not run itself: the spawner, a monitor for each sandbox, and short workers.

Begin with `spawner`: a warm process that forks the others. `monitor` is the parent of a container's process 1 and
lives as long as it, with or without wherryd; `host` stands in its place for a process of the host. `client` and
`handle` are wherryd's side of the same conversations; `workers` is the table of what a worker can be asked to do.
"""
