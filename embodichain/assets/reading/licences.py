"""Licences by their SPDX identifiers: checked, so that a typing error does not end in a catalogue that a lawyer signs."""

from __future__ import annotations

from difflib import get_close_matches

from packaging.licenses import (
    EXCEPTIONS,  # pyright: ignore[reportPrivateImportUsage]  # for hints alone: the list is there, if not in __all__
    LICENSES,  # pyright: ignore[reportPrivateImportUsage]
    InvalidLicenseExpression,
    canonicalize_license_expression,
)

from embodichain.errors import ConfigError


def check(expression: str) -> None:
    """Raises ConfigError unless a licence is `unknown` or an SPDX expression, by the list that `packaging` ships."""
    if expression.strip() == "unknown":
        return
    try:
        canonicalize_license_expression(expression)
    except InvalidLicenseExpression as error:
        raise ConfigError(
            f"licence {expression!r}: {error}; {_hint(expression)}give an expression of spdx.org/licenses, LicenseRef-<name>"
            " for one of your own, or unknown"
        ) from error


def _hint(expression: str) -> str:
    """The identifiers that are spelt most like a word which is none."""
    known = {entry["id"].lower(): entry["id"] for entry in (*LICENSES.values(), *EXCEPTIONS.values())}
    for word in expression.replace("(", " ").replace(")", " ").lower().split():
        if word not in ("and", "or", "with") and word.removesuffix("+") not in known and not word.startswith("licenseref-"):
            near = get_close_matches(word, known, 3, 0.5)
            return f"did you mean {' or '.join(known[name] for name in near)}? " if near else ""
    return ""
