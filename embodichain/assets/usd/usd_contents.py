"""What is authored in a USD file, in plain values: what checks look at, and what they find, so that they need no pxr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrimFacts:
    """A prim in plain values: `values` holds authored attributes (arrays as NumPy, quaternions as (w, x, y, z)), `targets`
    relationships, `matrix` its transform to the world as [4, 4] acting on row vectors.
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
    """A stage in plain values, for checks that need no pxr."""

    meters_per_unit: float
    kilograms_per_unit: float
    up_axis: str
    default_prim: str
    prims: tuple[PrimFacts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One fault: which check found it, at which prim, and what is wrong."""

    check: str
    prim: str
    message: str
