"""Public names of a package that are imported on first use, so that importing the package itself is fast."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` is not imported, because that would slow down every import of the package
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["public"]


def public(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: The package's `__name__`.
        homes: Each public name, and the module of the package that defines it; "" where the name is itself a module of the package.

    A name that is not public raises AttributeError, which lists those that are. A name that needs a package that is not installed
    raises MissingExtra, which says what to install.
    """

    def find(name: str) -> object:
        import importlib

        from embodichain.extras import explained

        if name not in homes:
            raise AttributeError(f"module {package!r} has no {name!r}; it has {', '.join(homes)}")
        with explained():
            module = importlib.import_module(f"{package}.{homes[name] or name}")
            return getattr(module, name) if homes[name] else module

    def listed() -> list[str]:
        import sys

        return sorted({*homes, *vars(sys.modules[package])})

    return find, listed
