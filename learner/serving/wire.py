"""openpi's wire format: msgpack with NumPy arrays as maps of raw bytes. Safe for untrusted data: decoding executes nothing.

An array is {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [2, 3]}, a scalar {b"__npgeneric__": True,
b"data": 0.5, b"dtype": "<f4"}. Only booleans, integers and floats are allowed: object arrays would need pickle, and void and
complex ones have no use here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import EmbodiChainError

_KINDS = "biuf"
_MOST_OF_NOTHING = 1 << 20
"""Largest dimension of an empty array. An empty list of actions [0, 30] is valid; a shape such as [0, 2^62] is an attack."""
_MOST_DIMENSIONS = 8
_MOST_ITEMS = 4096
"""Most items of a list or map. Long data must be sent as arrays: lists of Python numbers take many times the message's memory."""


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

    Raises WireError for anything else. Executes nothing, and allocates no more than the size of the data.
    """
    try:
        message = msgpack.unpackb(
            data,
            object_hook=_decode,
            ext_hook=_refuse_extension,
            strict_map_key=False,
            max_array_len=_MOST_ITEMS,
            max_map_len=_MOST_ITEMS,
            max_ext_len=0,
        )
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"not a msgpack message: {type(error).__name__}: {error}") from error
    if not isinstance(message, dict):
        raise WireError(f"a message is a map with string keys such as images, state and prompt, got {type(message).__name__}")
    if wrong := [key for key in message if not isinstance(key, str)]:
        raise WireError(f"keys of a message are strings, got {wrong[0]!r}")
    return message


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        _check_kind(value.dtype)
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot travel")


def _decode(value: dict[Any, Any]) -> Any:
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
    if not isinstance(name, str) or len(name) > 8:  # allows "<f4", "|u1", "float32", but no description of a structured dtype
        raise WireError(f"a dtype is a short string such as '<f4', got {name!r:.40}")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError) as error:
        raise WireError(f"unknown dtype {name!r}") from error
    return _check_kind(dtype)


def _check_kind(dtype: np.dtype) -> np.dtype:
    if dtype.kind not in _KINDS:
        raise WireError(f"arrays of dtype {dtype.str!r} do not travel; booleans, integers and floats do")
    return dtype


def _refuse_extension(code: int, data: bytes) -> Any:
    raise WireError(f"extension type {code} is not part of the wire format")
