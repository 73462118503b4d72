"""The only door to the host: models, memory, paths, progress."""
