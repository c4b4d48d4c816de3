"""What both services share: errors, geometry, pictures, the model catalogue, wire formats, settings."""
