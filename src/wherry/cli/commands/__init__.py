"""One module for a command, or for a few that are alike; each has a table `COMMANDS`, name → `Command`."""
