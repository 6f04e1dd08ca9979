"""The composition root: what wherryd is made of, joined once, and the front that the API talks to.

Begin with `engine`, which constructs everything and hands each package what it needs of the others. Each front
(`containers`, `images`, `volumes`, `system`) forwards to the package that does the work. What is decided here is about
the whole engine: which directories are ours (`holding`), in which cgroup (`placement`), what the host can do
(`host_report`), what takes up space (`disk_usage`).
"""
