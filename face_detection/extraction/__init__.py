"""The client of the extraction service."""
