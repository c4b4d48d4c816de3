"""The front: pictures in, names out."""
