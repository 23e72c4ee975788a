"""What ships with this package: weights, and policies that are asked for as builtin:NAME. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from embodichain.errors import RunError, nearest

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights"
"""Where the weights lie that this package ships: `encoder`, `segmenter` and `policies`."""
BUILTIN = "builtin:"
"""Before the name of a policy that ships with this package."""
_POLICIES = SHIPPED_WEIGHTS / "policies"


def shipped(name: str) -> Path:
    """The file of the policy `name` that ships with this package; raises RunError listing those that do."""
    known = sorted(p.stem for p in _POLICIES.glob("*.safetensors"))
    if name not in known:
        meant = nearest(name, known)
        guess = f"; did you mean {BUILTIN}{meant}?" if meant else ""
        raise RunError(f"no policy {name!r} ships with this package; available: {', '.join(known) or 'none'}{guess}")
    return _POLICIES / f"{name}.safetensors"
