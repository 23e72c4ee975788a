"""Docstrings write shapes and units in brackets, one after the other, which Markdown would take for a link: "[T, 3] [m]"."""

from __future__ import annotations

import re
from typing import Any

import griffe

_CODE = re.compile(r"(`[^`]*`)")


class BracketsAreNoLinks(griffe.Extension):
    """Escapes a bracket that follows another, outside of code."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Changes the docstring of every object that has been read."""
        if obj.docstring is not None:
            parts = _CODE.split(obj.docstring.value)
            parts[::2] = [re.sub(r"\](\s*)\[", r"]\1\\[", text) for text in parts[::2]]
            obj.docstring.value = "".join(parts)
