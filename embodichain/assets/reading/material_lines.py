"""Reads the lines in which a material of an OBJ file names its pictures.

All patterns here, and in the other readers, need time proportional to a file's length, whatever it contains: none can match
the same characters in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(r"[ \t]*(map_\w+|bump|disp|decal|refl|norm)[ \t]+(\S.*)", re.IGNORECASE)
_OPTIONS = re.compile(r"(?:-[A-Za-z]\w*\s+(?:(?:on|off|[-+\d.eE]+)\s+)*)+")


class PictureLine(NamedTuple):
    """What one line says: the kind of picture (such as map_Kd), and the name of its file with the options before it."""

    kind: str
    told: str

    @property
    def options(self) -> str:
        """The options before the name, such as "-s 2 2 1"; empty if there are none."""
        found = _OPTIONS.match(self.told)
        return found.group().strip() if found else ""


def picture_line(line: str) -> PictureLine | None:
    """What a line of a material says of a picture; None if it says nothing of one."""
    found = _LINE.match(line)
    return PictureLine(found[1], found[2].rstrip()) if found else None


def picture_lines(text: str) -> Iterator[PictureLine]:
    """All such lines of a file of materials, in order."""
    yield from filter(None, map(picture_line, text.splitlines()))


def without_options(told: str) -> str:
    """The name of a picture's file, without the options that may precede it."""
    found = _OPTIONS.match(told)
    return told[found.end() :] if found else told
