"""What exists once: a handle on slots, memory or a file, of which no copy may believe that it holds them as well."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from embodichain.errors import RingError


class Unique:
    """A base of objects that can be neither copied nor pickled, because what they hold ends with the original."""

    __slots__ = ()
    instead: ClassVar[str] = "copy the arrays that must outlive it, and give another process the ring, which attaches again"
    """What to do instead, for the error."""

    def __reduce__(self) -> NoReturn:
        """Called by `copy.copy`, `copy.deepcopy` and `pickle` alike; raises RingError."""
        raise RingError(f"a {type(self).__name__} can be neither copied nor pickled: {self.instead}")
