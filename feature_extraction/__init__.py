"""The extraction service: face crops in, embeddings out."""
