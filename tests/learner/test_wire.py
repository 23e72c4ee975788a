"""What openpi's own packer writes is read bit for bit and the other way round; everything else is refused, nothing executed."""

import contextlib
import pickle
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from openpi_client import msgpack_numpy

from learner.serving import wire
from learner.serving.wire import WireError, pack, unpack

DTYPES = st.sampled_from(["?", "|u1", "<i4", ">i2", "<f2", "<f4", ">f8", "<u8"])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)))
LEAVES = st.one_of(ARRAYS, st.text(max_size=8), st.booleans(), st.floats(allow_nan=False), st.integers(-(2**60), 2**60), st.none())
MESSAGES = st.dictionaries(
    st.text(max_size=6), st.one_of(LEAVES, st.dictionaries(st.text(max_size=4), LEAVES, max_size=3)), max_size=4
)


def equal(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and one == other


@settings(max_examples=60, deadline=None)
@given(MESSAGES)
def test_both_ways_between_openpis_packer_and_ours(message):
    assert equal(unpack(msgpack_numpy.packb(message)), message)
    assert equal(msgpack_numpy.unpackb(pack(message)), message)
    assert pack(message) == msgpack_numpy.packb(message)


def test_numpy_scalars_travel():
    message = {"a": np.float32(0.5), "b": np.int64(-3), "c": np.bool_(True)}
    assert equal(unpack(msgpack_numpy.packb(message)), message)
    assert equal(unpack(pack(message)), message)


def array(**changes) -> bytes:
    fields = {"data": bytes(24), "dtype": "<f4", "shape": [2, 3], **changes}
    return msgpack.packb({"x": {b"__ndarray__": True, **{name.encode(): value for name, value in fields.items()}}})


KINDS = ("b1", "?", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8")
PLAIN = [f"{order}{kind}" for order in ("", "<", ">", "|", "=") for kind in KINDS]
NAMES = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float16", "float32", "float64"]


@pytest.mark.parametrize("name", [*PLAIN, *NAMES])
def test_every_way_to_write_a_plain_number_type_is_read(name):
    dtype = np.dtype(name)
    got = unpack(array(dtype=name, data=bytes(3 * dtype.itemsize), shape=[3]))["x"]
    assert got.dtype == dtype and got.shape == (3,)
    assert unpack(pack({"x": got}))["x"].dtype == dtype


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(max_size=12), st.text("()<>|,=29fiubOVSM[]{}'\"?;-+.x# \n\0", max_size=9), st.text("<>|=biuf?1248", max_size=4)
    ),
    st.sampled_from([{b"__ndarray__": True, b"data": b"", b"shape": [0]}, {b"__npgeneric__": True, b"data": 1}]),
)
def test_no_text_of_a_dtype_can_raise_anything_but_a_wire_error(name, value):
    with contextlib.suppress(WireError):
        got = unpack(msgpack.packb({"x": {**value, b"dtype": name}}))["x"]
        assert got.dtype.kind in "biuf" and got.dtype.itemsize <= 8


def test_the_array_that_the_refused_ones_are_made_from_is_accepted():
    assert unpack(array())["x"].shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "|O"}, "do not travel"),
        ({"dtype": "|V4"}, "do not travel"),
        ({"dtype": "<c8"}, "do not travel"),
        ({"dtype": "<U6"}, "do not travel"),
        ({"dtype": "<M8[s]"}, "do not travel"),
        ({"dtype": "f4,O"}, "do not travel"),
        ({"dtype": [["a", "<f4"]]}, "short string"),
        ({"dtype": "nonsense"}, "do not travel"),
        ({"dtype": "<f16"}, "do not travel"),
        ({"dtype": ","}, "do not travel"),
        ({"dtype": "(2,"}, "do not travel"),
        ({"dtype": "<f4\n"}, "do not travel"),
        ({"dtype": "x" * 1_000_000}, "'x{39} do not travel"),
        ({"dtype": None}, "short string"),
        ({"shape": [2, 4]}, "takes 32 bytes, got 24"),
        ({"shape": [-2, -3]}, "list of at most"),
        ({"shape": [2**62, 2**62]}, "bytes, got 24"),
        ({"shape": [0, 2**62], "data": b""}, "is empty"),
        ({"shape": [1] * 40}, "list of at most"),
        ({"shape": "23"}, "list of at most"),
        ({"shape": [True, 6]}, "list of at most"),
        ({"data": "text"}, "data are bytes"),
        ({"data": 7}, "data are bytes"),
    ],
)
def test_arrays_that_lie_or_hold_what_must_not_travel_are_refused(changes, message):
    with pytest.raises(WireError, match=message):
        unpack(array(**changes))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a msgpack message"),
        (b"\xc1", "not a msgpack message"),
        (msgpack.packb([1, 2]), "a message is a map"),
        (msgpack.packb({1: 2}), "keys of a message are strings"),
        (msgpack.packb({"a": msgpack.ExtType(3, b"x")}), "not a msgpack message|extension type"),
        (msgpack.packb({"a": list(range(5000))}), "at most 4096 items"),
        (msgpack.packb({"a": [list(range(2100))] * 2}), "at most 4096 items"),
        (b"\x81\xa1a" + b"\x91" * 5000 + b"\x01", "nested deeper than 16"),
        (b"\x81\xa1a" + b"\xdd\xff\xff\xff\xff", "at most 4096 items"),
        (b"\x81\xa1a" + b"\xdf\xff\xff\xff\xff", "at most 4096 items"),
        (b"\x82\xa1a\x01\xa1a\x02", "2 entries has 1 different keys"),
        (b"\x81\xa1a\xc6\xff\xff\xff\xff", "not a msgpack message"),
        (b"\x81\x90\x01", "not a msgpack message"),
        (msgpack.packb({"a": 1}) + b"more", "not a msgpack message"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}}), "holds a number"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}), "is no uint8"),
        (pickle.dumps({"a": 1}), "a message|not a msgpack"),
    ],
)
def test_what_is_no_message_is_refused(data, message):
    with pytest.raises(WireError, match=message):
        unpack(data)


def listed(items: int, inside: bytes) -> bytes:
    return b"\xdd" + items.to_bytes(4, "big") + inside * items


def mapped(items: int, inside: bytes) -> bytes:
    return b"\xdf" + items.to_bytes(4, "big") + b"".join(b"\xcd" + k.to_bytes(2, "big") + inside for k in range(items))


TREES: dict[str, bytes] = {
    "lists of empty maps": listed(255, listed(4096, b"\x80")),
    "lists of small maps": listed(255, listed(1365, b"\x81\x01\x02")),
    "maps of maps of empty lists": mapped(127, mapped(2048, b"\x90")),
    "as many empty maps as are allowed": listed(4093, b"\x80"),
    "as many small maps as are allowed": listed(1364, b"\x81\x01\x02"),
    "headers alone, each for the items of all others": b"\xdc\x0f\xff" * 300_000,
    "bytes": b"\xc6" + (1 << 20).to_bytes(4, "big") + bytes(1 << 20),
    "text of wide letters": b"\xdb" + (1 << 20).to_bytes(4, "big") + "\U0001f916".encode() + b"a" * ((1 << 20) - 4),
}


@pytest.mark.parametrize("name", TREES)
def test_what_a_message_takes_in_memory_is_a_few_times_its_size(name):
    data = b"\x81\xa5state" + TREES[name]
    tracemalloc.start()
    try:
        with contextlib.suppress(WireError):
            unpack(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 6 * len(data) + (1 << 20)  # a text with one wide letter takes four bytes a letter


@settings(max_examples=150, deadline=None)
@given(st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=5), max_leaves=40))
def test_items_are_counted_as_the_decoder_finds_them(tree):
    """A message is refused for its items exactly if it has too many, wherever in it they are."""

    def items(value) -> int:
        return len(value) + sum(map(items, value)) if isinstance(value, list) else 0

    def depth(value) -> int:
        return 1 + max(map(depth, value)) if isinstance(value, list) and value else 0

    data = msgpack.packb({"a": tree, "b": {}, "c": bytes(300), "d": "e" * 70_000, "f": [1.5, -200, 70_000, 1 << 40, None, True]})
    expected = 10 + 6 + items(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_MOST_ITEMS", expected)
        patch.setattr(wire, "_MOST_NESTED", 1 + max(1, depth(tree)))
        assert unpack(data)["a"] == tree
        patch.setattr(wire, "_MOST_ITEMS", expected - 1)
        with pytest.raises(WireError, match="items together"):
            unpack(data)
        patch.setattr(wire, "_MOST_ITEMS", expected)
        patch.setattr(wire, "_MOST_NESTED", max(1, depth(tree)))
        with pytest.raises(WireError, match="nested deeper"):
            unpack(data)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=60), MESSAGES.map(msgpack_numpy.packb)), st.data())
def test_no_bytes_can_raise_anything_but_a_wire_error(data, draw):
    damaged = bytearray(data)
    if damaged:
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        assert isinstance(unpack(bytes(damaged)), dict)


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.zeros(2, complex), object(), {1j: 2}, np.zeros(1, "V4"), np.zeros(1, np.longdouble)]
)
def test_what_cannot_be_read_is_not_sent(value):
    with pytest.raises(WireError, match=r"cannot send|do not travel"):
        pack({"value": value})
