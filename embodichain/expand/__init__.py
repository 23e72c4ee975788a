"""Domain randomisation: varies looks, sizes and physics of scenes, and selects diverse scenes."""

__all__ = [
    "diversity",
    "physical",
    "size",
    "visual",
]
