"""Shows assets, robots, scenes and episodes in the browser: `exhibit` describes what to show, `page` shows it."""

__all__ = ["assets", "exhibit", "page", "worlds"]
