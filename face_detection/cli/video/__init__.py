"""Videos and cameras, who is seen in them, and who hears of it."""
