"""openpi's wire format: msgpack with NumPy arrays as maps of raw bytes. Safe for untrusted data: decoding executes nothing.

An array is {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [2, 3]}, a scalar {b"__npgeneric__": True,
b"data": 0.5, b"dtype": "<f4"}. Only booleans, integers and floats are allowed: object arrays would need pickle, and void and
complex ones have no use here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import EmbodiChainError

_DTYPE = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248])|bool|u?int(8|16|32|64)|float(16|32|64)")
"""The dtypes that travel. NumPy also reads texts as lists of fields, repeat counts and old names, and fails on some in odd ways."""
_MOST_OF_NOTHING = 1 << 20
"""Largest dimension of an empty array. An empty list of actions [0, 30] is valid; a shape such as [0, 2^62] is an attack."""
_MOST_DIMENSIONS = 8
_MOST_ITEMS = 4096
"""Most items of all lists and maps of a message together; a key and its value are two. Long data must be sent as arrays, because an
item of one byte can become a Python object of some hundred bytes."""
_MOST_NESTED = 16
"""Most lists and maps inside each other."""


class WireError(EmbodiChainError):
    """A message that is not in the wire format, or contains forbidden types."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Encodes a message; raises WireError for values that the format does not allow."""
    try:
        return cast(bytes, msgpack.packb(message, default=_encode))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot send this message: {error}") from error


def unpack(data: bytes) -> dict[str, Any]:
    """Decodes a message: a map of strings to plain values, arrays and maps. Arrays are read-only views into `data`.

    Raises WireError for anything else. Executes nothing, and allocates a few times the size of the data at most, beside one MiB.
    """
    _check_items(data)
    try:
        message = msgpack.unpackb(data, object_pairs_hook=_decode, ext_hook=_refuse_extension, strict_map_key=False, max_ext_len=0)
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"not a msgpack message: {type(error).__name__}: {error}") from error
    if not isinstance(message, dict):
        raise WireError(f"a message is a map with string keys such as images, state and prompt, got {type(message).__name__}")
    if wrong := [key for key in message if not isinstance(key, str)]:
        raise WireError(f"keys of a message are strings, got {wrong[0]!r:.40}")
    return message


def _check_items(data: bytes) -> None:
    """Raises WireError for a message with too many or too deeply nested items, from the headers alone.

    It must be known before anything is decoded: a header of three bytes makes room for thousands of items, whether or not they
    follow, and msgpack's own limits hold for each list separately. What is no valid message is left to the decoder to refuse.
    """
    at, total, left = 0, 0, [1]  # `left`: how many items are still to come, of the message and of every list and map inside it
    while left:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        if at >= len(data):
            return
        at, count = _header(data, at)
        total += count
        if total > _MOST_ITEMS:
            raise WireError(f"the lists and maps of a message hold at most {_MOST_ITEMS} items together: send long data as arrays")
        if count:
            left.append(count)
        if len(left) > _MOST_NESTED + 1:
            raise WireError(f"lists and maps of a message are nested deeper than {_MOST_NESTED}")


def _header(data: bytes, at: int) -> tuple[int, int]:
    """Where the value at `at` ends, without the items inside it, and the number of these; keys of maps count as items.

    Source: the msgpack specification, https://github.com/msgpack/msgpack/blob/master/spec.md.
    """
    tag = data[at]
    at += 1
    if tag < 0x80 or tag >= 0xE0:  # small integers
        return at, 0
    if tag < 0xA0:
        count = tag & 0x0F
        return at, count if tag >= 0x90 else 2 * count
    if tag < 0xC0:  # short strings
        return at + (tag & 0x1F), 0
    size_bytes, extra = _LENGTHS[tag]
    length = int.from_bytes(data[at : at + size_bytes], "big")
    at += size_bytes
    if tag >= 0xDC:
        return at, length if tag < 0xDE else 2 * length
    return at + length + extra, 0


_LENGTHS: dict[int, tuple[int, int]] = {
    **dict.fromkeys(range(0xC0, 0xC4), (0, 0)),  # nil, unused, false, true
    **{0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0)},  # bytes
    **{0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)},  # extensions, which have a type as well
    **{0xCA: (0, 4), 0xCB: (0, 8)},  # floats
    **{0xCC: (0, 1), 0xCD: (0, 2), 0xCE: (0, 4), 0xCF: (0, 8), 0xD0: (0, 1), 0xD1: (0, 2), 0xD2: (0, 4), 0xD3: (0, 8)},  # integers
    **{0xD4: (0, 2), 0xD5: (0, 3), 0xD6: (0, 5), 0xD7: (0, 9), 0xD8: (0, 17)},  # extensions of fixed sizes
    **{0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)},  # strings
    **{0xDC: (2, 0), 0xDD: (4, 0), 0xDE: (2, 0), 0xDF: (4, 0)},  # lists and maps
}
"""Of every tag from 0xC0 to 0xDF: the bytes of the length that follows it, and those of a value of fixed size."""


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        _check_dtype(value.dtype.str)
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot travel")


def _decode(pairs: list[tuple[Any, Any]]) -> Any:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise WireError(f"a map of {len(pairs)} entries has {len(value)} different keys: send each key once")
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        dtype, data = _dtype(value), value.get(b"data")
        if not isinstance(data, bool | int | float):
            raise WireError(f"a NumPy scalar holds a number, got {type(data).__name__}")
        try:
            return dtype.type(data)
        except (ValueError, OverflowError) as error:
            raise WireError(f"{data!r} is no {dtype.name}: {error}") from error
    return value


def _array(value: dict[Any, Any]) -> NDArray:
    dtype, data, shape = _dtype(value), value.get(b"data"), value.get(b"shape")
    if not isinstance(data, bytes):
        raise WireError(f"an array's data are bytes, got {type(data).__name__}")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMENSIONS
        or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    ):
        raise WireError(f"an array's shape is a list of at most {_MOST_DIMENSIONS} sizes, got {shape!r:.80}")
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(data):
        raise WireError(f"an array {dtype.name} {shape} takes {expected} bytes, got {len(data)}")
    if not data and max(shape, default=0) > _MOST_OF_NOTHING:
        raise WireError(f"an array of shape {shape} is empty")
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(value: dict[Any, Any]) -> np.dtype:
    name = value.get(b"dtype")
    if not isinstance(name, str):
        raise WireError(f"a dtype is a short string such as '<f4', got {name!r:.40}")
    _check_dtype(name)
    return np.dtype(name)


def _check_dtype(name: str) -> None:
    if not _DTYPE.fullmatch(name):
        raise WireError(f"arrays of dtype {name!r:.40} do not travel; booleans, integers and floats do, such as '<i8' and '<f4'")


def _refuse_extension(code: int, data: bytes) -> Any:
    raise WireError(f"extension type {code} is not part of the wire format")
