"""The authored contents of a USD file as plain values, and the faults found in them, so that checks need no pxr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrimFacts:
    """A prim as plain values: `values` are the authored attributes (arrays as NumPy, quaternions as (w, x, y, z)), `targets` the
    relationships, and `matrix` its transformation to the world, [4, 4], acting on row vectors.
    """

    path: str
    type_name: str
    kind: str
    schemas: frozenset[str]
    values: Mapping[str, Any]
    targets: Mapping[str, tuple[str, ...]]
    matrix: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageFacts:
    """A stage as plain values, for checks that need no pxr."""

    meters_per_unit: float
    kilograms_per_unit: float
    up_axis: str
    default_prim: str
    prims: tuple[PrimFacts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One fault: the check that found it, the prim, and the message."""

    check: str
    prim: str
    message: str
