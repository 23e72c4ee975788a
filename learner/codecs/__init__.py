"""What a frame or a chunk becomes before a model reads it."""
