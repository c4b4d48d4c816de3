"""Search in the memory of the front."""
