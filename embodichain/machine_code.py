"""Functions compiled to machine code, cached on disk, and recompiled when any of their inputs has changed.

Numba's own cache checks only the file of the function. But a kernel also contains the kernels that it calls, the constants that it
reads and the named tuples that it takes, whatever files define them; stale code of those would run unnoticed.
"""

from __future__ import annotations

import hashlib
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import config, types
from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator, UserWideCacheLocator
from numba.core.registry import CPUDispatcher

__all__ = ["Beside", "Configured", "Home", "Kernel", "Stamped", "compiled", "inner"]


class Kernel(CPUDispatcher):
    """A compiled function that is compiled once for all constants of a type.

    Numba types a constant in a call of one kernel by another by its value, and would compile the callee again for each value.
    """

    def add_overload(self, cres: Any) -> None:
        """Keeps what was compiled for one signature; where Python has no way in, Python's table of signatures is not told."""
        if self.targetoptions.get("no_cpython_wrapper"):
            self.overloads[tuple(cres.signature.args)] = cres
        else:
            super().add_overload(cres)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """Compiles the function for a call from Python."""
        if self.targetoptions.get("no_cpython_wrapper"):
            raise TypeError(f"{self.py_func.__qualname__} is called by kernels only; call its py_func instead")
        return super()._compile_for_args(*args, **kws)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What numba needs to call this function from another one with arguments of these types."""
        return super().get_call_template(
            tuple(types.unliteral(kind) for kind in args), {name: types.unliteral(kind) for name, kind in kws.items()}
        )


def inner(**options: Any) -> Any:
    """A decorator of functions that only kernels call, never Python.

    Numba would compile two more functions with each, which turn Python's or C's objects into its arguments. Where these are named
    tuples of dozens of arrays, that takes longer than the function itself.
    """
    return compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)


def compiled(*signatures: str, **options: Any) -> Any:
    """A decorator that compiles a function when it is first called with new types, or at once for the given `signatures`.

    The code is cached beside the source, or in the user's cache folder where that is read-only. Where neither can be written, every
    process compiles for itself.

    Args:
        signatures: Numba signatures; with them the function takes no other types.
        options: As of `numba.njit`; nothing here is called from C.
    """

    def decorate(function: FunctionType) -> Any:
        dispatcher = Kernel(function, targetoptions={"nopython": True, "boundscheck": None, "no_cfunc_wrapper": True} | options)
        before, config.CACHE_LOCATOR_CLASSES = config.CACHE_LOCATOR_CLASSES, _LOCATORS
        try:
            with suppress(RuntimeError):  # numba found no folder that it may write to
                dispatcher.enable_caching()
        finally:
            config.CACHE_LOCATOR_CLASSES = before
        for signature in signatures:
            dispatcher.compile(signature)
        if signatures:
            dispatcher.disable_compile()
        return dispatcher

    return decorate


class Stamped:
    """A location for compiled code, with a stamp that covers everything the code depends on."""

    def __init__(self, function: FunctionType, path: str) -> None:
        super().__init__(function, path)  # pyright: ignore[reportCallIssue]  the class beside this one takes both
        self._function = function

    def get_source_stamp(self) -> str:
        """The stamp; cached code is used only if it is unchanged."""
        return _stamp(self._function)


class Configured(Stamped, UserProvidedCacheLocator):
    """The folder in NUMBA_CACHE_DIR."""


class Beside(Stamped, InTreeCacheLocator):
    """The folder of the source."""


class Home(Stamped, UserWideCacheLocator):
    """The user's cache folder."""


_LOCATORS = ",".join(f"{__name__}.{place.__name__}" for place in (Configured, Beside, Home))
"""Import paths by which numba finds these classes, as it finds those in NUMBA_CACHE_LOCATOR_CLASSES."""


def _stamp(function: FunctionType) -> str:
    """A hash of the function's file, of those that it imports from its own folder, and of the values it reads from elsewhere."""
    digest = hashlib.sha256(_sources(function.__module__).encode())
    for line in sorted(_outside(function, set())):
        digest.update(line.encode())
    return digest.hexdigest()


@cache
def _sources(module: str) -> str:
    """A hash of a module's file and of the modules of its folder that it imports, recursively."""
    folder, found, waiting = module.rpartition(".")[0], {}, [module]
    imported = re.compile(rf"^from {re.escape(folder)}(?:\.(\w+))? import (\([^)]*\)|.*)", re.MULTILINE)
    while waiting:
        name = waiting.pop()
        if name in found or (path := _file(name)) is None:
            continue
        text = found[name] = path.read_text()
        for inner, names in imported.findall(text):
            waiting += [f"{folder}.{other}" for other in ([inner] if inner else re.findall(r"\w+", names))]
    return hashlib.sha256("\0".join(f"{name}\0{found[name]}" for name in sorted(found)).encode()).hexdigest()


def _file(module: str) -> Path | None:
    """The source file of an imported module."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path) if path else None


def _outside(function: FunctionType, visited: set[FunctionType]) -> set[str]:
    """One line for each kernel and constant that a function reads, and those that such kernels read."""
    visited.add(function)
    names, lines = _names(function.__code__), set[str]()
    for name in names:
        value = function.__globals__.get(name)
        for label, thing in _members(name, value, names) if isinstance(value, ModuleType) else [(name, value)]:
            if isinstance(thing, CPUDispatcher):
                inner = thing.py_func
                lines.add(f"{label} {_sources(inner.__module__)}")
                lines |= _outside(inner, visited) if inner not in visited else set()
            elif isinstance(thing, bool | int | float | complex | str | bytes | tuple | np.generic):
                lines.add(f"{function.__module__}.{label} {thing!r}")
            elif isinstance(thing, np.ndarray):
                lines.add(
                    f"{function.__module__}.{label} {thing.dtype} {thing.shape} {hashlib.sha256(thing.tobytes()).hexdigest()}"
                )
    return lines


def _names(code: CodeType) -> tuple[str, ...]:
    """The names of globals and attributes in a function's code, and in that of the functions and generators within it."""
    within = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant)]
    return (*code.co_names, *within)


def _members(name: str, module: ModuleType, names: tuple[str, ...]) -> list[tuple[str, object]]:
    """The members of a module of this project that a function which reads `names` may use."""
    if not module.__name__.startswith(__name__.partition(".")[0]):
        return []
    return [(f"{name}.{inner}", vars(module)[inner]) for inner in names if inner in vars(module)]
