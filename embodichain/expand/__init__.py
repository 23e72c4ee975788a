"""Domain expansion: what makes episodes differ beyond their layout."""

__all__ = [
    "diversity",
    "physical",
    "size",
    "visual",
]
