"""The engine: an async front that wires everything once. No logic of its own.

engine.containers  engine.images  engine.networks  engine.system  engine.events
"""
