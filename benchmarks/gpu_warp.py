"""Makes Warp small enough to carry to a bare GPU machine: `make gpu-pack` calls it, see `gpu_pack.py`.

Of Warp's library, machine code for GPUs of other architectures is zeroed, which compresses to nothing; the compiler for CPUs, tests
and examples stay behind. What remains is still too large for one pack, so it is cut in two; the second pack's `run.sh` joins them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import mmap
import struct
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

ARCHITECTURE = 90
_MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")
"""Magic number, version, size of this header, size of the entries after it."""
_ENTRY = struct.Struct("<HHIQ")
"""Kind, version, size of the entry's header, size of its payload."""
_PTX, _ELF = 1, 2
_AT_ARCHITECTURE = 28
_LEFT_OUT = ("tests", "examples", "__pycache__", "warp-clang.so")


def entries(library: bytes | mmap.mmap) -> Iterator[tuple[int, int, slice]]:
    """Kind, architecture and place of the payload of each piece of GPU code in a library's fat binaries."""
    start = 0
    while (start := library.find(_MAGIC.to_bytes(4, "little"), start)) >= 0:
        _, version, head, size = _CONTAINER.unpack_from(library, start)
        if version != 1 or head != _CONTAINER.size or start + head + size > len(library):
            start += 4  # the number stands there by chance
            continue
        place, end = start + head, start + head + size
        while place < end:
            kind, _, head, size = _ENTRY.unpack_from(library, place)
            if head < _AT_ARCHITECTURE + 4 or place + head + size > end:
                raise ValueError(f"the fat binary at {start:#x} has an entry at {place:#x} that cannot be read: {head}, {size}")
            (architecture,) = struct.unpack_from("<I", library, place + _AT_ARCHITECTURE)
            yield kind, architecture, slice(place + head, place + head + size)
            place += head + size
        start = end


def pruned(library: bytes) -> bytes:
    """The library without GPU code for other architectures; its size and everything else are as before.

    Raises ValueError when it has no machine code for ours.
    """
    out, kept = bytearray(library), 0
    for kind, architecture, place in entries(library):
        if kind == _ELF and architecture == ARCHITECTURE:
            kept += 1
        elif kind in (_PTX, _ELF):
            out[place] = bytes(place.stop - place.start)
    if not kept:
        raise ValueError(f"the library holds no machine code for architecture {ARCHITECTURE}: this Warp is of another build")
    return bytes(out)


def packed(folder: Path | None = None, *, preset: int = 6) -> bytes:
    """Warp as an archive: `warp/` with its pruned library. `folder` is the package's; by default the installed one."""
    if folder is None:
        spec = importlib.util.find_spec("warp")
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent
    stream = BytesIO()
    with lzma.open(stream, "wb", preset=preset) as squeezed, tarfile.open(fileobj=squeezed, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            within = path.relative_to(folder)
            if path.is_dir() or set(within.parts) & set(_LEFT_OUT):
                continue
            data = path.read_bytes()
            entry = tarfile.TarInfo(f"warp/{within.as_posix()}")
            data = pruned(data) if path.name == "warp.so" else data
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, BytesIO(data))
    return stream.getvalue()


def cut(archive: bytes, first: Path, second: Path, most_bytes: int) -> str:
    """Writes an archive in two halves; returns the SHA-256 of the whole. Raises SystemExit when a half is too large."""
    middle = (len(archive) + 1) // 2
    if middle > most_bytes:
        raise SystemExit(f"half of Warp has {middle / 1e6:.1f} MB, {most_bytes / 1e6:.0f} MB are allowed: carry it in three packs")
    first.write_bytes(archive[:middle])
    second.write_bytes(archive[middle:])
    return hashlib.sha256(archive).hexdigest()
