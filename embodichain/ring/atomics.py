"""Atomic operations on 64-bit cells at raw addresses, for use inside numba kernels.

NumPy and numba offer none, so each is emitted as one LLVM instruction. Orderings: `cas`, `add`, `exchange`, `set_bits` and
`clear_all_but` are sequentially consistent read-modify-writes (`lock`-prefixed on x86, `ldaxr/stlxr` or LSE `al` forms on ARM);
`load` acquires and `store` releases.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

CELL = ir.IntType(64)
_intrinsic: Any = intrinsic
"""Typed as Any, because numba adds the first argument: kernels call these functions with one argument fewer."""


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, CELL.as_pointer())


@_intrinsic
def load(_context: Any, address: Any) -> Any:
    """Acquire load: everything that another process wrote before it stored this value is visible afterwards."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, args[0]), "acquire", 8)

    return types.uint64(types.int64), codegen


@_intrinsic
def store(_context: Any, address: Any, value: Any) -> Any:
    """Release store: everything written before it is visible to any process that loads the new value."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), codegen


@_intrinsic
def cas(_context: Any, address: Any, before: Any, after: Any) -> Any:
    """Compare-and-swap: if the cell holds `before`, stores `after` and returns True."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        # seq_cst and not acq_rel: waiters and publishers each write one cell and then read another (`words.signal`), which needs a
        # total order of the two writes.
        result = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.uint64, types.uint64), codegen


def _read_modify_write(operation: str, name: str, doc: str) -> Any:
    def typer(_context: Any, address: Any, value: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.atomic_rmw(operation, _pointer(builder, args[0]), args[1], "seq_cst")

        return types.uint64(types.int64, types.uint64), codegen

    typer.__name__ = typer.__qualname__ = name
    typer.__doc__ = doc
    return _intrinsic(typer)


add = _read_modify_write("add", "add", "Adds and returns the value before.")
exchange = _read_modify_write("xchg", "exchange", "Stores and returns the value before.")
set_bits = _read_modify_write("or", "set_bits", "Sets the given bits and returns the value before.")
clear_all_but = _read_modify_write("and", "clear_all_but", "Keeps only the given bits and returns the value before.")


@_intrinsic
def lowest_bit(_context: Any, value: Any) -> Any:
    """Index of the lowest set bit of a non-zero word."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen
