"""System calls: thin typed functions that raise `KernelError` naming the call. Nothing is imported but floor 0."""
