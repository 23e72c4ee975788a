"""A look at assets, robots, scenes and episodes in the browser: `exhibit` says what there is to see, `page` shows it."""

__all__ = ["assets", "exhibit", "page", "worlds"]
