"""Pictures in the folders that the official scorers of drawing and editing read."""
