"""``make prove``: what the service promises, tried on real processes that are killed, starved, flooded and lied to."""
