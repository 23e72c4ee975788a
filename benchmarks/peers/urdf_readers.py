"""What two libraries make of URDF files, in an environment of their own: reads paths from standard input, one a line, prints JSON.

For each library: files that it accepts, elements, attributes and texts in them, and how many are gone when it writes them again.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import yourdfpy  # pyright: ignore[reportMissingImports]  # of the environment that runs this
from lxml import etree
from urdf_parser_py import urdf  # pyright: ignore[reportMissingImports]


def said(root: Any) -> Counter[str]:
    """How often each kind of element, attribute and text is below a root."""
    found: Counter[str] = Counter()
    for one in root.iter():
        if isinstance(one.tag, str) and one is not root:
            found[one.tag] += 1
            found.update(f"{one.tag}@{name}" for name in one.attrib)
            found[f"{one.tag} text"] += bool(one.text and one.text.strip())
    return found


def by_yourdfpy(file: str) -> Any:
    """The file as yourdfpy writes it again; meshes are not looked for."""
    unread = ("build_scene_graph", "load_meshes", "build_collision_scene_graph", "load_collision_meshes")
    return yourdfpy.URDF.load(file, **dict.fromkeys(unread, False)).write_xml().getroot()


def by_urdf_parser_py(file: str) -> Any:
    """The file as urdf-parser-py writes it again."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return etree.fromstring(urdf.URDF.from_xml_file(file).to_xml_string())


def counted(reader: Callable[[str], Any], files: list[str]) -> dict[str, Any]:
    """The figures of one library."""
    read, stated, lost = 0, 0, Counter[str]()
    for file in files:
        try:
            made = reader(file)
        except Exception:  # whatever a foreign reader raises, it refuses the file
            continue
        before = said(etree.parse(file).getroot())
        read, stated, lost = read + 1, stated + sum(before.values()), lost + (before - said(made))
    return {"read": read, "stated": stated, "forgotten": sum(lost.values()), "most": dict(lost.most_common(12))}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    paths = sys.stdin.read().splitlines()
    print(json.dumps({"yourdfpy": counted(by_yourdfpy, paths), "urdf_parser_py": counted(by_urdf_parser_py, paths)}))
