"""The commands, one a module: each parses, calls and prints, and has its click command as `command`."""
