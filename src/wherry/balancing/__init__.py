"""Balancing: which containers stand behind a service, and HAProxy kept in step with that. Begin with `services`.

What labels and HAProxy's configuration mean is `proxy/`'s.
"""
