"""Search elsewhere: in an index that follows the database."""
