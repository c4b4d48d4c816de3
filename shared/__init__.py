"""What both services share: errors, geometry, pictures, the model catalogue, wire formats, settings."""

__version__ = "0.1.0"
"""Of the whole project. The one place: a plain checkout and an image have it without being installed."""
