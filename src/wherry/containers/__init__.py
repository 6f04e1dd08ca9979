"""The verbs of a container, one file per verb or lifecycle step, over one model and one table of states.

What floor 4 offers (images, monitors, workers) and the network are handed in by `engine/` as values of the Protocols
in `ports.py`; nothing here constructs them.
"""
