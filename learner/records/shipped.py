"""Weights and policies that ship with this package; a policy is named as builtin:NAME. Does not import torch."""

from __future__ import annotations

from pathlib import Path

from embodichain.errors import RunError, nearest

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the weights that ship with this package."""
BUILTIN = "builtin:"
"""Prefix of the name of a policy that ships with this package."""
_POLICIES = SHIPPED_WEIGHTS / "policies"


def shipped(name: str) -> Path:
    """The file of the policy `name` that ships with this package; raises RunError listing those that do."""
    known = sorted(p.stem for p in _POLICIES.glob("*.safetensors"))
    if name not in known:
        meant = nearest(name, known)
        guess = f"; did you mean {BUILTIN}{meant}?" if meant else ""
        raise RunError(f"no policy {name!r} ships with this package; available: {', '.join(known) or 'none'}{guess}")
    return _POLICIES / f"{name}.safetensors"
