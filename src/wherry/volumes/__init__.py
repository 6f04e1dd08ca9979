"""Data that outlives containers: a directory and a record for each volume. Knows nothing of containers."""
