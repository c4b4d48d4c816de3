"""Recognition: from a picture to names. No HTTP and no SQL here."""
