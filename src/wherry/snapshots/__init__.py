"""Layered file systems: archives become trees, trees archives, and layers are given out as mounts, never made here."""
