"""What every SQL database has in common."""
