"""Messages of errors that are mostly caught and never read."""

from __future__ import annotations

from collections.abc import Callable


class When:
    """A message that is composed when somebody reads it, of the ring as it is then: whoever polls catches it unread."""

    __slots__ = ("_compose",)

    def __init__(self, compose: Callable[[], str]) -> None:
        self._compose = compose

    def __str__(self) -> str:
        return self._compose()

    def __repr__(self) -> str:
        return repr(str(self))

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)
