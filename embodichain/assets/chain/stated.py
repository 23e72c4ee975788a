"""What a source states about its bodies, taken from its own text or stage and not from our readers, which a referee judges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from embodichain.assets.chain.witnesses import Testimony
from embodichain.assets.reading.naming import numbered
from embodichain.assets.reading.references import references
from embodichain.assets.reading.xml_reading import parse

WEIGHT = frozenset(("mass", "center", "inertia"))


def stated(source: Path, native: Testimony) -> Mapping[str, frozenset[str]]:
    """Which of mass, center, inertia and friction a URDF, MJCF or USD file states for each body, by the body's own name.

    `native` is the reading of the format's own program. MuJoCo computes all masses of MJCF bodies, so all of them count as stated.

    Raises:
        AssetError: the file is malformed.
    """
    kind = source.suffix.lower()
    if kind == ".urdf":
        return _by_urdf(parse(source))
    if kind in (".xml", ".mjcf"):
        files = [file for file in (source, *references(source)) if file.suffix in (".xml", ".mjcf")]
        rubs = any(element.tag == "geom" and "friction" in element.attrib for file in files for element in parse(file).iter())
        names = {*native.bodies, *(native.friction if rubs else ())}
        return {
            name: (WEIGHT if name in native.bodies else frozenset())
            | ({"friction"} if rubs and name in native.friction else frozenset())
            for name in names
        }
    from embodichain.assets.usd.foreign import resolve  # imports pxr
    from embodichain.assets.usd.said import said_of_bodies

    names = numbered([body.path for body in resolve(source).bodies])
    return {names.get(path, path): said for path, said in said_of_bodies(source)}


def _by_urdf(root: ElementTree.Element) -> dict[str, frozenset[str]]:
    """Links connected by a fixed joint count as one with their parent."""
    above = {}
    for joint in root.iter("joint"):
        parent, child = joint.find("parent"), joint.find("child")
        if joint.get("type") == "fixed" and parent is not None and child is not None:
            above[child.get("link", "")] = parent.get("link", "")
    found: dict[str, frozenset[str]] = {}
    for link in root.iter("link"):
        name, seen = link.get("name", ""), set[str]()
        while name in above and name not in seen:
            seen.add(name)
            name = above[name]
        found[name] = found.get(name, frozenset()) | frozenset(_of_inertial(link.find("inertial")))
    return found


def _of_inertial(inertial: ElementTree.Element | None) -> Iterator[str]:
    mass = inertial.find("mass") if inertial is not None else None
    if inertial is None or mass is None or not _weighs(mass.get("value", "")):
        return
    yield "mass"
    if inertial.find("inertia") is not None:
        yield "inertia"
    if inertial.find("inertia") is not None or inertial.find("origin") is not None:
        yield "center"


def _weighs(text: str) -> bool:
    try:
        return 0.0 < float(text) < math.inf
    except ValueError:
        return False
