"""Files as they arrive from outside: any of our formats, whole, cut short, with bytes changed, or with odd numbers."""

import io
import struct

import numpy as np
import trimesh

KINDS = ("stl", "obj", "ply", "off", "glb")


def encoded(mesh, kind):
    """A mesh as the bytes of a file; indices and numbers go in as they are."""
    with np.errstate(all="ignore"):
        shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, validate=False)
        if kind == "stl":
            return _stl(mesh)
        if kind in ("obj", "off"):
            return _text(mesh, kind)
        return bytes(trimesh.exchange.export.export_mesh(shape, io.BytesIO(), file_type=kind) or b"")


def harmed(data, rng):
    """The bytes as they are, or cut short, overwritten here and there, or with a stretch missing or said twice."""
    data = bytearray(data)
    if not data:
        return b""
    match rng.integers(6):
        case 0:
            return bytes(data[: rng.integers(len(data) + 1)])
        case 1:
            for place in rng.integers(len(data), size=int(rng.integers(1, 20))):
                data[place] = int(rng.integers(256))
        case 2:
            start, end = np.sort(rng.integers(len(data), size=2))
            del data[start:end]
        case 3:
            start, end = np.sort(rng.integers(len(data), size=2))
            data[start:start] = data[start:end]
        case 4:
            place = int(rng.integers(max(len(data) - 4, 1)))
            data[place : place + 4] = struct.pack("<I", int(rng.choice([0, 2**31 - 1, 2**32 - 1])))
    return bytes(data)


def _stl(mesh):
    faces = mesh.faces[(mesh.faces >= 0).all(axis=1) & (mesh.faces < len(mesh.vertices)).all(axis=1)]
    rows = np.zeros(len(faces), np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
    rows["v"] = mesh.vertices[faces]
    return b"\0" * 80 + struct.pack("<I", len(faces)) + rows.tobytes()


def _text(mesh, kind):
    points = [" ".join(repr(float(value)) for value in row) for row in mesh.vertices]
    if kind == "obj":
        lines = [f"v {point}" for point in points] + ["f " + " ".join(str(i + 1) for i in row) for row in mesh.faces.tolist()]
    else:
        lines = ["OFF", f"{len(points)} {len(mesh.faces)} 0", *points]
        lines += ["3 " + " ".join(str(i) for i in row) for row in mesh.faces.tolist()]
    return "\n".join(lines).encode()
