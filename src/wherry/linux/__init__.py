"""System calls, each a thin typed function that raises `KernelError` naming the call. Imports nothing of the project but floor 0."""
