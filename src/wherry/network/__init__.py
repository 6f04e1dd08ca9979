"""Networks in the kernel: bridges, links, addresses, firewall rules, published ports, and names.

Begin with `endpoint`, one container on one network. Nothing here knows containers or the API: `networking/` does, and
calls this. `netd` is a process of its own that answers for names.
"""
