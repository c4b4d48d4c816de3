"""Live recognition: the frames of a video one after the other."""
