"""HTTP itself: bodies, load, authentication, failures; nothing of faces."""
