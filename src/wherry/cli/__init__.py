"""The command that people type. `main` finds a command in `table` and imports its module only then."""
