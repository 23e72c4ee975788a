"""Licences by their SPDX identifiers: checked, so that a typing error does not end in a catalogue that a lawyer signs."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from embodichain.errors import ConfigError

_FILE = Path(__file__).with_name("spdx.json")
_OWN = re.compile(r"(DocumentRef-[\w.-]+:)?LicenseRef-[A-Za-z0-9.-]+")


@cache
def identifiers() -> frozenset[str]:
    """The licences and exceptions of the table that ships with the package."""
    table = json.loads(_FILE.read_text(encoding="utf-8"))
    return frozenset(table["licences"]) | frozenset(table["exceptions"])


def check(expression: str) -> None:
    """Raises ConfigError unless a licence is `unknown` or an SPDX expression of known identifiers and `LicenseRef-`s."""
    if expression.strip() == "unknown":
        return
    for word in re.sub(r"[()]", " ", expression).split():
        plain = word.removesuffix("+")
        if word in ("AND", "OR", "WITH") or plain in identifiers() or _OWN.fullmatch(word):
            continue
        near = get_close_matches(plain, identifiers(), 3, 0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f"licence {expression!r}: {word!r} is no SPDX identifier; {hint}give one of spdx.org/licenses, LicenseRef-<name>"
            " for one of your own, or unknown"
        )
