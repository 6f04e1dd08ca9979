"""Wherry: a container engine, image builder and registry that every Docker client can talk to.

Importing the package costs nothing: whatever a process needs, it imports by module.
"""

__version__ = "0.1.0"
