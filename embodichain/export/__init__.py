"""What leaves the engine in other people's formats: videos today, data sets later."""

__all__ = [
    "video",
]
