"""Runs a control period in one compiled loop: makes MuJoCo steps, and sums the contacts after each from MuJoCo's memory.

Through MuJoCo's Python views, reading the contacts would cost as much as a physics step; here it costs next to nothing. Memory
offsets are derived from the struct declarations that MuJoCo ships (`mujoco.introspect`), and checked against its Python views
before use.
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from llvmlite import ir
from mujoco.introspect.ast_nodes import ArrayType, PointerType, ValueType
from mujoco.introspect.structs import STRUCTS
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from embodichain.machine_code import compiled
from embodichain.types import Contact
from embodichain.types.scenes import Touches

_intrinsic: Any = intrinsic
_C_TYPES: dict[str, Any] = {
    "int": ctypes.c_int,
    "uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "mjtNum": ctypes.c_double,
    "mjtSize": ctypes.c_int64,
    "mjtBool": ctypes.c_bool,
    "size_t": ctypes.c_size_t,
    "uintptr_t": ctypes.c_void_p,
}
_FORCE, _DEPTH, _PEAK, _NOW, _PUSH, _COLUMNS = 0, 1, 2, 3, 6, 9
"""Columns of the sums for a pair of bodies: normal force, deepest overlap, largest resultant force of any physics step; from `_NOW`
on the force vector of the present step, from `_PUSH` on that of all steps."""


class Stepper:
    """Steps one `MjData` and gathers its contacts; for one thread. Model and data must outlive this object.

    A fatal error of MuJoCo inside the loop ends the process. In a step, that can only be a lack of arena memory, so worlds are
    compiled with memory to spare.
    """

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, names: tuple[str, ...], owners: NDArray[np.int32] | None = None
    ) -> None:
        """`names` are those of bodies; `owners` the body that each geom's contacts are attributed to, by default its own."""
        self._offsets = _offsets()
        self._step = _step_address()
        self._addresses = model._address, data._address
        self._bodies = np.ascontiguousarray(model.geom_bodyid if owners is None else owners, np.int32)
        self._names = names
        self._rows = np.full((model.nbody, model.nbody), -1, np.int32)
        most = model.nbody * (model.nbody - 1) // 2 + 1  # all pairs of bodies, and the pair of grains with each other
        self._pairs = np.zeros((most, 2), np.int32)
        self._sums = np.zeros((most, _COLUMNS))
        self._counts = np.zeros(2, np.int64)

    def advance(self, num_steps: int, *, resume: bool = False) -> None:
        """Makes physics steps and gathers their contacts; with `resume`, added to those gathered before."""
        _advance(
            *(self._step, *self._addresses, num_steps, resume),
            *(self._offsets, self._bodies, self._rows, self._pairs, self._sums, self._counts),
        )

    def look(self) -> None:
        """Gathers the contacts of the present state, whose forces MuJoCo has computed."""
        _advance(
            *(0, *self._addresses, 1, False), *(self._offsets, self._bodies, self._rows, self._pairs, self._sums, self._counts)
        )

    @property
    def num_pairs(self) -> int:
        """Number of pairs of bodies with contacts."""
        return int(self._counts[1])

    def gathered(self) -> Touches:
        """The contacts by pair of bodies, in order of first touch. Partly views, valid only until the next step."""
        steps, num = self._counts.tolist()
        sums = self._sums[:num]
        return Touches(
            pair=self._pairs[:num],
            force=sums[:, _FORCE] / steps,
            depth=sums[:, _DEPTH],
            peak=sums[:, _PEAK],
            push=sums[:, _PUSH:] / steps,
        )

    def contacts(self) -> tuple[Contact, ...]:
        """The contacts with the names of bodies."""
        return self.gathered().named(self._names)


# -------------------------------------------------------------------------------------------------------------- memory


def _layout(name: str) -> tuple[dict[str, int], int, int]:
    """Offset of every field of a MuJoCo struct, and the struct's size and alignment [bytes], by the rules of the C ABI."""
    offsets: dict[str, int] = {}
    end, widest = 0, 1
    for field in STRUCTS[name].fields:
        size, alignment = _size(field.type)
        end += -end % alignment
        offsets[field.name] = end
        end, widest = end + size, max(widest, alignment)
    return offsets, end + -end % widest, widest


def _size(kind: Any) -> tuple[int, int]:
    if isinstance(kind, PointerType):
        return ctypes.sizeof(ctypes.c_void_p), ctypes.alignment(ctypes.c_void_p)
    if isinstance(kind, ArrayType):
        size, alignment = _size(kind.inner_type)
        return size * int(np.prod(kind.extents)), alignment
    assert isinstance(kind, ValueType), f"MuJoCo's structs hold a kind of field that is not known here: {kind}"
    if kind.name in STRUCTS:
        return _layout(kind.name)[1:]
    return ctypes.sizeof(_C_TYPES[kind.name]), ctypes.alignment(_C_TYPES[kind.name])


@lru_cache(maxsize=1)
def _offsets() -> NDArray[np.int64]:
    """Offsets in mjData (ncon, contact, efc_force), the size of mjContact, offsets in it (dist, geom, efc_address, frame)."""
    data, _, _ = _layout("mjData")
    contact, size, _ = _layout("mjContact")
    offsets = np.array(
        (
            *(data["ncon"], data["contact"], data["efc_force"], size),
            *(contact["dist"], contact["geom"], contact["efc_address"], contact["frame"]),
        ),
        np.int64,
    )
    _check(data, contact, size)
    return offsets


def _check(data: dict[str, int], contact: dict[str, int], size: int) -> None:
    """Compares the derived layout with MuJoCo's Python views, on two spheres that touch a plane."""
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1))
    for x in (0.0, 1.0):
        ball = spec.worldbody.add_body(pos=(x, 0.0, 0.09))
        ball.add_freejoint()
        ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=(0.1, 0, 0))
    model = spec.compile()
    probe = mujoco.MjData(model)
    mujoco.mj_forward(model, probe)
    address, views = probe._address, probe.contact
    start = _pointer(address + data["contact"])
    seen = (
        ctypes.c_int.from_address(address + data["ncon"]).value,
        start + contact["dist"],
        start + contact["geom"],
        start + contact["efc_address"],
        start + contact["frame"],
        size,
        _pointer(address + data["efc_force"]),
        _pointer(address + data["ctrl"]) if model.nu else 0,
    )
    known = (
        probe.ncon,
        *(view.__array_interface__["data"][0] for view in (views.dist, views.geom, views.efc_address, views.frame)),
        views.dist.strides[0],
        probe.efc_force.__array_interface__["data"][0],
        0,
    )
    assert seen == known, f"MuJoCo {mujoco.mj_versionString()} lays its data out as {known}, its declarations say {seen}"


@lru_cache(maxsize=1)
def _step_address() -> int:
    """Address of `mj_step` in the library that the Python bindings use."""
    library = ctypes.CDLL(str(next(Path(mujoco.__file__).parent.glob("*mujoco.*[0-9bl]"))))
    return ctypes.cast(library.mj_step, ctypes.c_void_p).value or 0


def _pointer(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def _load(kind: Any, result: Any) -> Any:
    @_intrinsic
    def read(_context: Any, address: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.load(builder.inttoptr(args[0], kind.as_pointer()))

        return result(types.int64), codegen

    return read


_int32 = _load(ir.IntType(32), types.int32)
_int64 = _load(ir.IntType(64), types.int64)
_float64 = _load(ir.DoubleType(), types.float64)


@_intrinsic
def _call(_context: Any, function: Any, model: Any, data: Any) -> Any:
    """Calls a C function `void (*)(const mjModel*, mjData*)` by its address."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), (pointer, pointer)).as_pointer()
        builder.call(builder.inttoptr(args[0], kind), [builder.inttoptr(address, pointer) for address in args[1:]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@compiled()
def _advance(
    step: int,
    model: int,
    data: int,
    num_steps: int,
    resume: bool,
    offsets: Any,
    bodies: Any,
    rows: Any,
    pairs: Any,
    sums: Any,
    counts: Any,
) -> None:
    # Only entries that were used are reset: the table of all pairs of bodies is large, and few pairs touch.
    if not resume:
        for i in range(counts[1]):
            rows[pairs[i, 0], pairs[i, 1]] = -1
        counts[:] = 0
    counts[0] += num_steps
    for _ in range(num_steps):
        if step != 0:
            _call(step, model, data)
        _gather(data, offsets, bodies, rows, pairs, sums, counts)


@compiled()
def _gather(address: int, offsets: Any, bodies: Any, rows: Any, pairs: Any, sums: Any, counts: Any) -> None:
    num_contacts = _int32(address + offsets[0])
    if num_contacts == 0:
        return
    contact = _int64(address + offsets[1])
    forces = _int64(address + offsets[2])
    for i in range(counts[1]):
        sums[i, _NOW:_PUSH] = 0.0
    for _ in range(num_contacts):
        row = _int32(contact + offsets[6])
        # Contacts are read from raw memory: the number of contacts changes each step, so no array view could be kept.
        if row >= 0:  # -1 for contacts between bodies that cannot move
            force = _float64(forces + 8 * row)  # with elliptic friction cones, the first row of a contact is its normal force
            if force > 0.0:
                one = bodies[_int32(contact + offsets[5])]
                other = bodies[_int32(contact + offsets[5] + 4)]
                first, second = min(one, other), max(one, other)
                found = rows[first, second]
                if found < 0:
                    found = counts[1]
                    counts[1] += 1
                    rows[first, second] = found
                    pairs[found, 0] = first
                    pairs[found, 1] = second
                    sums[found] = 0.0
                sums[found, _FORCE] += force
                sums[found, _DEPTH] = max(sums[found, _DEPTH], -_float64(contact + offsets[4]))
                # MuJoCo's contact normal points from the first geom to the second, which is the direction of the force on the
                # second.
                signed = force if one <= other else -force
                for axis in range(3):
                    share = signed * _float64(contact + offsets[7] + 8 * axis)
                    sums[found, _NOW + axis] += share
                    sums[found, _PUSH + axis] += share
        contact += offsets[3]
    for i in range(counts[1]):
        resultant = math.sqrt(sums[i, _NOW] ** 2 + sums[i, _NOW + 1] ** 2 + sums[i, _NOW + 2] ** 2)
        sums[i, _PEAK] = max(sums[i, _PEAK], resultant)
