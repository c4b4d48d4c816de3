"""Where weight files come from: sources, checksums and conversions. ``store.ensure`` is the way in."""
