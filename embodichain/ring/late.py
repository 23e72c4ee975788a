"""Error messages that are composed lazily, because most of these errors are caught without reading the message."""

from __future__ import annotations

from collections.abc import Callable


class When:
    """A message that is composed when it is read, from the state of the ring at that time."""

    __slots__ = ("_compose",)

    def __init__(self, compose: Callable[[], str]) -> None:
        self._compose = compose

    def __str__(self) -> str:
        return self._compose()

    def __repr__(self) -> str:
        return repr(str(self))

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)
