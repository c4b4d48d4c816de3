"""The gallery in SQLite."""
