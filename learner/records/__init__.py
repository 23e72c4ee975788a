"""What runs leave on disk, and how they say where they are."""
