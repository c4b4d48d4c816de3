"""The installation that a command works on, over HTTP or in this process."""
