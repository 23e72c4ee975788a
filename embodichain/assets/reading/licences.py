"""Checks licences against the SPDX identifiers, so that a misspelt one does not end up in a catalogue."""

from __future__ import annotations

import re
from difflib import get_close_matches

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from embodichain.errors import ConfigError

_ELSEWHERE = re.compile(r"\bDocumentRef-[A-Za-z0-9.-]+:LicenseRef-[A-Za-z0-9.-]+")
"""Prefix of a licence that is defined in another document; SPDX allows it, `packaging` does not know it."""


def canonical(expression: str) -> str:
    """The normal form of a licence: `unknown`, or an SPDX expression spelt as in the list that `packaging` ships.

    Raises:
        ConfigError: the text is neither.
    """
    if expression.strip() == "unknown":
        return "unknown"
    elsewhere = _ELSEWHERE.findall(expression)
    names = {f"LicenseRef-elsewhere-{number}": name for number, name in enumerate(elsewhere)}
    taken = iter(names)
    try:
        found = str(canonicalize_license_expression(_ELSEWHERE.sub(lambda _: next(taken), expression)))
    except InvalidLicenseExpression as error:
        raise ConfigError(
            f"licence {expression!r}: {error}; {_hint(expression)}give an expression of spdx.org/licenses, LicenseRef-<name>"
            " for one of your own, or unknown"
        ) from error
    return (
        re.sub("|".join(map(re.escape, sorted(names, key=len, reverse=True))), lambda one: names[one[0]], found) if names else found
    )


def _hint(expression: str) -> str:
    """The known identifiers that are most similar to an unknown word."""
    from packaging.licenses import (
        EXCEPTIONS,  # pyright: ignore[reportPrivateImportUsage]  # for hints alone: the list is there, if not in __all__
        LICENSES,  # pyright: ignore[reportPrivateImportUsage]
    )

    known = {entry["id"].lower(): entry["id"] for entry in (*LICENSES.values(), *EXCEPTIONS.values())}
    for word in expression.replace("(", " ").replace(")", " ").lower().split():
        if word not in ("and", "or", "with") and word.removesuffix("+") not in known and not word.startswith("licenseref-"):
            near = get_close_matches(word, known, 3, 0.5)
            return f"did you mean {' or '.join(known[name] for name in near)}? " if near else ""
    return ""
