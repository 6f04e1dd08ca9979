"""Compose against the engine."""
