"""Registries of named things: built-in ones, those that installed distributions add, and anything "package.module:Name" imports.

A registry keeps import paths, not objects. Listing names reads the metadata of installed distributions and imports none of them; a
name is imported when it is requested, by every process for itself. So workers find what their engine found as long as they can
import the same modules.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from embodichain.errors import ConfigError, EmbodiChainError, nearest, unknown
from embodichain.extras import MissingExtra, explained

__all__ = [
    "Offer",
    "Registry",
    "is_reference",
]

T = TypeVar("T")
R = TypeVar("R")

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_reference(text: str) -> bool:
    """Whether `text` has the form "package.module:Name", which is imported instead of looked up."""
    return _REFERENCE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One entry point of an installed distribution: its name, and the "package.module:Name" behind it."""

    name: str
    path: str
    distribution: str
    """Name and version of the distribution."""
    summary: str
    """The distribution's summary of itself, in one line."""


class Registry(Generic[T]):
    """Things of one kind by name: the built-in ones first, then those that distributions add under the entry-point group.

    A name that is taken twice is refused, but only when it is requested: installing a distribution must never change the code
    behind an existing name, and one bad distribution must not break the names of the others.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str], remedy: str = "") -> None:
        """`kind` and `remedy` appear in errors; `built_in` maps names to "package.module:Name"."""
        self.kind = kind
        self.group = group
        self.built_in = dict(built_in)
        self._remedy = remedy or "or package.module:Name"

    def names(self) -> tuple[str, ...]:
        """Every name that exists, the built-in ones first; imports none of them."""
        return tuple(dict.fromkeys([*self.built_in, *sorted(offer.name for offer in self.offers())]))

    def offers(self) -> tuple[Offer, ...]:
        """The entry points that installed distributions add."""
        return _offers(self.group, tuple(sys.path))

    def check(self, name: str) -> None:
        """Raises ConfigError when `name` is unknown or taken twice. Imports only the module of a "package.module:Name", because
        only that shows whether something is behind the path, and it should be known before anything long has begun.
        """
        self._find(name)
        if name not in self and is_reference(name):
            self.get(name)

    def get(self, name: str) -> T:
        """Imports the thing called `name`: an existing name, or "package.module:Name".

        Raises:
            ConfigError: The name is unknown or taken twice, or the thing behind it cannot be imported; the message then names the
                distribution.
        """
        path, origin = self._find(name)
        if not origin:
            with explained():
                return cast(T, _import(path))
        try:
            with explained():
                return cast(T, _import(path))
        except MissingExtra as error:
            raise ConfigError(f"{self.kind} {name!r} of {origin} cannot be used here: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"{self.kind} {name!r} of {origin} cannot be imported: {error}") from error
        except ModuleNotFoundError as error:
            module = path.partition(":")[0]
            if not is_reference(name) or error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise ConfigError(
                    f"{self.kind} {name!r} of {origin} cannot be imported from {path}: {error}; install what it needs, "
                    "uninstall it, or use another name"
                ) from error
            raise ConfigError(
                f"{self.kind} {name!r} cannot be found: {error}; mind the spelling, and the folder that the module lies in (the "
                "working folder and PYTHONPATH are looked in)"
            ) from error
        except Exception as error:  # foreign code may raise anything at import; that costs only this name
            raise ConfigError(
                f"{self.kind} {name!r} of {origin} cannot be imported from {path}: {type(error).__name__}: {error}; "
                "mend or uninstall it, or use another name"
            ) from error

    def call(self, name: str, result: type[R], *arguments: object) -> R:
        """What the function behind `name` returns for `arguments`, which must be a `result`.

        Raises ConfigError as `get` does, and when another author's function cannot be called so, raises, or returns anything else.
        """
        made, origin = self.get(name), self.origin(name)
        if not origin:
            return cast(R, cast(Any, made)(*arguments))
        try:
            found = cast(Any, made)(*arguments)
        except EmbodiChainError:
            raise
        except Exception as error:
            raise ConfigError(f"{self.kind} {name!r} of {origin} raised {type(error).__name__}: {error}") from error
        if not isinstance(found, result):
            raise ConfigError(
                f"{self.kind} {name!r} of {origin} is no {self.kind}: it gave a {type(found).__name__}, not a {result.__name__}"
            )
        return found

    def origin(self, name: str) -> str:
        """The origin of a name: the distribution with its version, or the module of a reference; empty when it is built in."""
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[str, str]:
        """Import path and origin of a name."""
        offers = [offer for offer in self.offers() if offer.name == name]
        if name in self.built_in:
            if offers:
                raise ConfigError(
                    f"{self.kind} {name!r} is built in, and {_distributions(offers)} takes the same name: rename or uninstall it, "
                    f"or ask for its own as {offers[0].path}"
                )
            return self.built_in[name], ""
        if len(offers) > 1:
            raise ConfigError(
                f"{self.kind} {name!r} is added by {_distributions(offers)}: uninstall all but one, or ask for one of "
                f"{', '.join(offer.path for offer in offers)}"
            )
        if offers:
            return offers[0].path, offers[0].distribution
        if not is_reference(name):
            raise unknown(self.kind, name, self.names(), self._remedy)
        module, _, _ = name.partition(":")
        if module == "__main__":
            raise ConfigError(
                f"{self.kind} {name!r} lives in the program that was started, which workers cannot import: move it into a module"
            )
        return name, f"the module {module}"

    def __getitem__(self, name: str) -> T:
        """See `get`."""
        return self.get(name)

    def __iter__(self) -> Iterator[str]:
        """See `names`."""
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        """Whether the name exists. A reference is not a name, though `get` accepts it."""
        return name in self.names()


def _import(path: str) -> object:
    module, _, attributes = path.partition(":")
    found: object = import_module(module)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            there = sorted(name for name in vars(found) if not name.startswith("_"))
            meant = f", did you mean {near!r}?" if (near := nearest(attribute, there)) else ""
            raise ConfigError(f"{module} has no attribute {attribute!r}{meant}; it has {', '.join(there) or 'none'}")
        found = getattr(found, attribute)
    return found


def _distributions(offers: Iterable[Offer]) -> str:
    return " and ".join(sorted({f"the distribution {offer.distribution}" for offer in offers}))


@cache
def _entry_points(search_path: tuple[str, ...]) -> Any:  # its type differs before and since Python 3.12
    """Entry points of all groups, because a query for a single group would read the metadata of every distribution again."""
    from importlib.metadata import entry_points  # importing it takes a third of the time of `embodichain --help`

    return entry_points()


@cache
def _offers(group: str, search_path: tuple[str, ...]) -> tuple[Offer, ...]:
    """The entry points of a group on the search path, cached because reading the metadata takes milliseconds."""
    found = []
    for entry in _entry_points(search_path).select(group=group):
        path = entry.value.partition("[")[0].strip()
        if entry.dist is None:
            found.append(Offer(name=entry.name, path=path, distribution="without a name", summary=""))
            continue
        metadata = entry.dist.metadata
        called, summary = f"{metadata['Name']} {entry.dist.version}", metadata.get("Summary", "")
        found.append(Offer(name=entry.name, path=path, distribution=called, summary=summary))
    return tuple(found)
