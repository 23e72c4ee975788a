"""What an actor is given to do: numbers, each made by itself, so that an exception costs one of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from embodichain.errors import EmbodiChainError

Made = TypeVar("Made")

_MOST = 400
"""Most characters of an error message in the log."""


class Raised(NamedTuple):
    """A number whose making ended with an exception."""

    number: int
    what: str
    """The exception's type and message."""
    detail: str
    """The whole traceback."""


def each(numbers: Sequence[int], make: Callable[[int], Made]) -> list[Made | Raised]:
    """Makes every number in turn. Known errors, such as a bad configuration, would hit every number and are raised."""
    made: list[Made | Raised] = []
    for number in numbers:
        try:
            made.append(make(number))
        except EmbodiChainError:
            raise
        except Exception as error:
            made.append(Raised(number, f"{type(error).__name__}: {error}"[:_MOST], traceback.format_exc()))
    return made
