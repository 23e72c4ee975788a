"""Determines the size of an asset: as the user states, as its file states, as usual in its category, or as a hand can hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from embodichain.assets.families.tables import category_table, material_table
from embodichain.errors import AssetError, ConfigError, unknown

UNITS: Mapping[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
"""Metres per unit, by the name of the unit."""
_GUESSES = ("m", "mm", "cm", "in")
"""Units of files that state none, most likely first."""
_TOLERANCE = 1.6
"""How far an object's size may be outside the range of its category before it is doubted."""
_HELD = (0.015, 0.60)
"""Range of the longest side [m] of objects that a robot's hands move."""
_TYPICAL_HELD = 0.12
_SANE = (0.001, 5.0)
_SANE_STATED = (0.001, 50.0)
"""The same if the file states its size: a mobile robot may be larger than objects on a table."""


class ScaleSource(StrEnum):
    """Where the size came from, in order of precedence."""

    USER = "user"
    FILE = "file"
    CATEGORY = "category"
    HAND = "hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Metres per unit of the file, the source of that value, and remarks."""

    factor: float
    source: ScaleSource
    note: str = ""


def prior(category: str) -> tuple[float, float] | None:
    """Range of the longest side [m] of objects of a category; None when the table has none."""
    longest = category_table().get(category, {}).get("longest_m")
    return (float(longest[0]), float(longest[1])) if isinstance(longest, list) else None


def fits(size: float, category: str) -> bool:
    """Whether a longest side [m] fits a category; true for categories that are not in the table."""
    expected = prior(category)
    return expected is None or _fits(size, expected)


def guess_category(name: str) -> str:
    """The longest known category that a file's name mentions; "" if none."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    found = [kind for kind in category_table() if set(kind.split("_")) <= set(words)]
    return max(found, key=len, default="")


def guess_material(name: str) -> str:
    """The longest known material that a part's name mentions; "" if none."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    found = [kind for kind in material_table() if set(kind.split("_")) <= set(words)]
    return max(found, key=len, default="")


def resolve(
    longest: float,
    category: str,
    *,
    unit: str = "",
    size_m: float = 0.0,
    declared: float = 0.0,
    binding: bool = False,
    guessed: bool = False,
) -> Scale:
    """Metres per unit for an object whose longest side is `longest` units.

    Args:
        longest: longest side in the file's units.
        category: its category, "" when unknown.
        unit: the user's unit: m, cm, mm, in or ft; "" when the user states none.
        size_m: the user's longest side [m]; 0 when the user states none.
        declared: metres per unit as the file's format defines; 0 when it does not.
        guessed: whether the category is only a word in the file's name, which does not justify rescaling.
        binding: whether `declared` is certain, as in a robot description, whatever the category says.

    Raises:
        AssetError: no plausible size was found.
        ConfigError: the unit is unknown, or the size not positive.
    """
    if not (math.isfinite(longest) and longest > 0.0):
        raise AssetError(f"scale: the longest side is {longest} units; the mesh has no extent")
    if unit and unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    if not size_m >= 0.0:
        raise ConfigError(f"scale: the longest side must be positive [m], got {size_m}")
    if size_m or unit:
        factor = size_m / longest if size_m else UNITS[unit]
        return _sane(longest, Scale(factor=factor, source=ScaleSource.USER))
    if declared and binding:
        return _sane(
            longest, Scale(factor=declared, source=ScaleSource.FILE, note=_beside(longest * declared, category)), _SANE_STATED
        )
    expected = prior(category)
    if expected is None:
        return _sane(longest, _by_hand(longest, declared))
    doubt = ""
    if declared:
        if _fits(longest * declared, expected):
            return Scale(factor=declared, source=ScaleSource.FILE)
        usual = f"{_metres(expected[0])} to {_metres(expected[1])}"
        doubt = f"the file makes it {_metres(longest * declared)}, a {category} is {usual} long"
    for guess in _GUESSES:
        if _fits(longest * UNITS[guess], expected) and UNITS[guess] != declared:
            note = f"{doubt}; read as {guess}" if doubt else f"read as {guess}"
            return Scale(factor=UNITS[guess], source=ScaleSource.CATEGORY, note=note)
    if guessed:
        return _sane(longest, _by_hand(longest, declared))
    middle = math.sqrt(expected[0] * expected[1])
    doubt = doubt or f"{longest:.4g} units fit no {category} in any unit"
    return Scale(factor=middle / longest, source=ScaleSource.CATEGORY, note=f"{doubt}; rescaled to {_metres(middle)}")


def _beside(size: float, category: str) -> str:
    """A remark if a declared size is unusual for its category."""
    expected = prior(category)
    if expected is None or _fits(size, expected):
        return ""
    return f"a {category} is {_metres(expected[0])} to {_metres(expected[1])} long: the file's own unit was believed"


def _by_hand(longest: float, declared: float) -> Scale:
    if declared:
        return Scale(factor=declared, source=ScaleSource.FILE, note="no category to check it against")
    fitting = [guess for guess in _GUESSES if _HELD[0] <= longest * UNITS[guess] <= _HELD[1]]
    if not fitting:
        raise AssetError(
            f"scale: {longest:.4g} units are nothing a hand can hold in {', '.join(_GUESSES)}; give its unit, size_m or category"
        )
    best = min(fitting, key=lambda guess: abs(math.log(longest * UNITS[guess] / _TYPICAL_HELD)))
    return Scale(factor=UNITS[best], source=ScaleSource.HAND, note=f"read as {best}")


def _sane(longest: float, scale: Scale, bounds: tuple[float, float] = _SANE) -> Scale:
    size = longest * scale.factor
    if not bounds[0] <= size <= bounds[1]:
        raise AssetError(
            f"scale: {_metres(size)} by {scale.source} is no table-top object ({_metres(bounds[0])} to {_metres(bounds[1])});"
            " give its unit, size_m or category"
        )
    return scale


def _fits(size: float, expected: tuple[float, float]) -> bool:
    return expected[0] / _TOLERANCE <= size <= expected[1] * _TOLERANCE


def _metres(size: float) -> str:
    return f"{size * 1e3:.4g} mm" if size < 1.0 else f"{size:.4g} m"
