"""From a messy mesh to a validated, physical USD asset."""

__all__ = [
    "chain",
    "families",
    "geometry",
    "physical",
    "pictures",
    "reading",
    "usd",
]
