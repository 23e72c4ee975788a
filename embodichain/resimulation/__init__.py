"""Makes scenes and episodes again, bitwise the same, from their records: single ones, and the frozen sets of suites."""

from __future__ import annotations

from embodichain.resimulation.episodes import Resimulated, fingerprints, resimulate
from embodichain.resimulation.records import SceneRecord, check_origin, rebuild

__all__ = ["Resimulated", "SceneRecord", "check_origin", "fingerprints", "rebuild", "resimulate"]
