"""XML that tracks what was read: everything unread is listed, so that no reader can overlook anything silently."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from embodichain.assets.families.parts import Kept, Preservation
from embodichain.errors import AssetError

_DEEPEST = 200
"""Largest nesting depth. MJCF nests links some dozen deep, and readers recurse at each level."""
_SHOWN = 120
"""Number of characters of an unread element that the table shows."""


def parse(path: Path) -> ElementTree.Element:
    """Parses an XML file in any encoding.

    Raises:
        AssetError: it is malformed, nested too deeply, or declares a document type, whose entities could expand without limit.
    """
    text = path.read_bytes()
    if b"<?xml" in text and not text.startswith((b"<?xml", b"\xef\xbb\xbf<?xml")):
        text = re.sub(rb"<\?xml[^<>]*\?>", b"", text, count=1)  # a misplaced declaration contains nothing that is needed
    parser = ElementTree.XMLParser(target=_Strict(path))
    try:
        parser.feed(text)
        return parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AssetError(f"read: {path} is no well-formed XML: {error}") from error


class _Strict(ElementTree.TreeBuilder):
    """Builds the tree, and immediately refuses constructs that no description needs and that could harm readers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._depth = path, 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise AssetError(f"read: {self._path} nests elements more than {_DEEPEST} deep; is it a description?")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise AssetError(f"read: {self._path} declares a document type or entities; robot descriptions need none, remove them")


class Node:
    """An element whose attributes and children are marked as read when they are accessed."""

    def __init__(self, element: ElementTree.Element, seen: set[tuple[int, str]] | None = None) -> None:
        self.element = element
        self._seen = set[tuple[int, str]]() if seen is None else seen
        self._seen.add((id(element), ""))

    @property
    def tag(self) -> str:
        """The element's tag."""
        return self.element.tag

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of an attribute."""
        self._seen.add((id(self.element), name))
        return self.element.get(name, default)

    def text(self) -> str:
        """The text between the element's tags."""
        return (self.element.text or "").strip()

    def find(self, tag: str) -> Node | None:
        """The first child with this tag; further ones remain unread."""
        found = self.element.find(tag)
        return None if found is None else Node(found, self._seen)

    def findall(self, tag: str) -> list[Node]:
        """All children with this tag."""
        return [Node(found, self._seen) for found in self.element.findall(tag)]

    def first(self) -> Node | None:
        """The first child with any tag."""
        return Node(self.element[0], self._seen) if len(self.element) else None

    def numbers(self, name: str, count: int, default: tuple[float, ...], where: str, *, finite: bool = True) -> tuple[float, ...]:
        """The numbers of an attribute; raises AssetError unless there are `count` of them, finite ones unless `finite` is False.

        With an empty `default` the attribute is required.
        """
        return _numbers(self.get(name), count, default, f"{name} {where}", finite=finite)

    def inner(self, tag: str, count: int, default: tuple[float, ...], where: str, *, finite: bool = True) -> tuple[float, ...]:
        """The numbers in the text of the first child with this tag; otherwise as `numbers`."""
        child = self.find(tag)
        return _numbers(None if child is None else child.text(), count, default, f"<{tag}> {where}", finite=finite)

    def number(self, name: str, default: float | None, where: str, *, finite: bool = True) -> float:
        """The single number of an attribute; without a `default` it is required."""
        return self.numbers(name, 1, () if default is None else (default,), where, finite=finite)[0]

    def unread(self, reason: str) -> Iterator[Kept]:
        """One row for each unread element and attribute below this one."""
        yield from self._unread(self.element, self.element.get("name", self.element.tag), reason)

    def _unread(self, element: ElementTree.Element, owner: str, reason: str) -> Iterator[Kept]:
        for name, value in element.attrib.items():
            if (id(element), name) not in self._seen:
                yield Kept(of=owner, what=f"{element.tag} {name}", stated=value[:_SHOWN], fate=Preservation.DROPPED, reason=reason)
        for child in element:
            if not isinstance(child.tag, str):
                continue  # a comment
            inner = child.get("name", owner)
            if (id(child), "") in self._seen:
                yield from self._unread(child, inner, reason)
            else:
                text = ElementTree.tostring(child, encoding="unicode").strip()
                yield Kept(
                    of=inner, what=child.tag, stated=" ".join(text.split())[:_SHOWN], fate=Preservation.DROPPED, reason=reason
                )


def _numbers(text: str | None, count: int, default: tuple[float, ...], where: str, *, finite: bool = True) -> tuple[float, ...]:
    if text is None and default:
        return default
    try:
        values = tuple(float(word) for word in (text or "").replace(",", " ").split())
    except ValueError:
        values = ()
    if len(values) != count or (finite and not all(math.isfinite(value) for value in values)):
        raise AssetError(f"read: {where} is {text!r}, expected {count} finite number{'s' * (count > 1)}")
    return values
