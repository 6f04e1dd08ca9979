"""The engine on the cgroup layout that most people have, in a virtual machine with Debian's own kernel."""
