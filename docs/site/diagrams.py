"""Draws the diagrams of the documentation as SVG while it is built, so that a page loads no program from elsewhere to show one.

Pages hold them as Mermaid text, which hosts of repositories draw too. What the pages use is understood: flow charts of nodes,
labelled arrows and unconnected subgraphs, state diagrams in one row, and sequence diagrams. Anything else raises DiagramError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

_CHAR, _LINE, _PAD = 7.3, 18.0, 12.0
"""Mean width of a letter, height of a line, and margin around a text [px]."""
_APART, _BETWEEN = 24.0, 52.0
"""Distance of neighbours in a layer, and of layers [px]."""
_NODE = re.compile(r'^(\w+)\s*(?:(\(\[|\[\(|\[|\{|\()\s*"?(.*?)"?\s*(?:\]\)|\)\]|\]|\}|\)))?$')
_ARROW = re.compile(r'\s*(?:--\s+(?:"([^"]*)"|([^">-][^">]*?))\s+-->|(-\.->|-->|---))\s*')
_ROUND, _BARREL, _CHOICE = "([", "[(", "{"


class DiagramError(ValueError):
    """A diagram that this file cannot draw; the message holds the line."""


@dataclass(slots=True)
class Node:
    """A node with its lines of text; a bend of a long arrow has no `name`. Positions and sizes in px."""

    name: str = ""
    shape: str = "["
    lines: list[str] = field(default_factory=list)
    layer: int = 0
    along: float = 0.0
    across: float = 0.0

    @property
    def width(self) -> float:
        """Horizontal size."""
        return max((len(line) for line in self.lines), default=0) * _CHAR + 2 * _PAD if self.name else 0.0

    @property
    def height(self) -> float:
        """Vertical size."""
        return len(self.lines) * _LINE + _PAD + (8.0 if self.shape == _BARREL else 0.0) if self.name else 0.0


@dataclass(slots=True)
class Edge:
    """An arrow through `path`: its ends, with bends between them."""

    path: list[Node]
    label: list[str] = field(default_factory=list)
    kind: str = "-->"


def figure(source: str, *_: Any, **__: Any) -> str:
    """A diagram in Mermaid's notation as inline SVG: a formatter of `pymdownx.superfences`. Raises DiagramError."""
    lines = [line.strip() for line in source.strip().splitlines() if line.strip()]
    kind, _, direction = lines[0].partition(" ")
    if kind == "flowchart" and direction in ("LR", "TB"):
        parts, width, height = _flowchart(lines[1:], sideways=direction == "LR")
    elif kind == "stateDiagram-v2":
        parts, width, height = _states(lines[1:])
    elif kind == "sequenceDiagram":
        parts, width, height = _sequence(lines[1:])
    else:
        raise DiagramError(
            f"unknown kind of diagram {lines[0]!r}; known: flowchart LR, flowchart TB, stateDiagram-v2, sequenceDiagram"
        )
    head = f'<svg class="diagram" xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:.0f} {height:.0f}"'
    style = f'style="width:100%;max-width:{width:.0f}px" font-family="sans-serif" font-size="13" fill="currentColor"'
    return f"{head} {style}>{''.join(parts)}</svg>"


# ----------------------------------------------------------------------------------------------------------- flow charts


def _flowchart(lines: Sequence[str], *, sideways: bool) -> tuple[list[str], float, float]:
    """The elements of a flow chart, its width and its height; subgraphs stand below each other in titled boxes."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        if line.startswith("subgraph "):
            groups.append((_NODE.sub(r"\3", line.removeprefix("subgraph ")), []))
        elif line == "end":
            groups.append(("", []))
        else:
            groups[-1][1].append(line)
    parts: list[str] = []
    widest, y = 0.0, 0.0
    for title, inner in groups:
        if not inner:
            continue
        drawn, width, height = _graph(inner, sideways=sideways)
        edge, top = (10.0, 30.0) if title else (0.0, 0.0)
        if title:
            width = max(width, len(title) * _CHAR + 2 * _PAD)
            box = f'width="{width + 2 * edge - 2:.1f}" height="{height + top + edge:.1f}" rx="6" fill="none" stroke="currentColor"'
            parts.append(
                f'<rect x="1" y="{y + 1:.1f}" {box} stroke-dasharray="4 3"/>' + _text(_PAD, y + 20.0, title, anchor="start")
            )
        parts.append(f'<g transform="translate({edge:.1f} {y + top:.1f})">{"".join(drawn)}</g>')
        widest, y = max(widest, width + 2 * edge), y + height + top + edge + (12.0 if title else 0.0)
    return parts, widest, y


def _graph(lines: Sequence[str], *, sideways: bool) -> tuple[list[str], float, float]:
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    for line in lines:
        pieces = _ARROW.split(line)
        stops = [[_node(text, nodes, line) for text in piece.split(" & ")] for piece in pieces[::4]]
        for (here, there), quoted, plain, kind in zip(pairwise(stops), pieces[1::4], pieces[2::4], pieces[3::4], strict=True):
            label = re.split(r"<br ?/?>", quoted or plain) if quoted or plain else []
            edges += [Edge([a, b], label, kind or "-->") for a in here for b in there]
    _layers(list(nodes.values()), edges)
    layers = _bends(list(nodes.values()), edges)
    _order(layers, edges)
    width, height = _place(layers, edges, sideways=sideways)
    at = (lambda node: (node.along, node.across)) if sideways else (lambda node: (node.across, node.along))
    parts = [element for edge in edges for element in _arrow(edge, at, sideways=sideways)]
    parts += [_shape(node, *at(node)) for node in nodes.values()]
    return parts, width, height


def _node(text: str, nodes: dict[str, Node], line: str) -> Node:
    """The node that a text names, made when it is named first."""
    match = _NODE.match(text.strip())
    if match is None:
        raise DiagramError(f"cannot read {text!r} in {line!r}")
    name, shape, told = match.groups()
    node = nodes.setdefault(name, Node(name=name, lines=[name]))
    if shape:
        node.shape, node.lines = shape, re.split(r"<br ?/?>", told)
    return node


def _layers(nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
    """Gives every node the length of the longest way to it; raises DiagramError for a chart that goes round."""
    for _ in range(len(nodes) + 1):
        late = [edge for edge in edges if edge.path[1].layer <= edge.path[0].layer]
        if not late:
            return
        for edge in late:
            edge.path[1].layer = edge.path[0].layer + 1
    raise DiagramError(f"arrows go round: {late[0].path[0].name} --> {late[0].path[1].name}")


def _bends(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[list[Node]]:
    """The layers, with a bend in each layer that a long arrow crosses, so that it is led past the nodes there."""
    layers: list[list[Node]] = [[] for _ in range(1 + max(node.layer for node in nodes))]
    for node in nodes:
        layers[node.layer].append(node)
    for edge in edges:
        first, last = edge.path
        for layer in range(first.layer + 1, last.layer):
            bend = Node(layer=layer)
            layers[layer].append(bend)
            edge.path.insert(-1, bend)
    return layers


def _neighbours(edges: Sequence[Edge]) -> Iterator[tuple[Node, Node]]:
    for edge in edges:
        yield from pairwise(edge.path)


def _order(layers: Sequence[list[Node]], edges: Sequence[Edge]) -> None:
    """Sorts each layer by the mean place of its neighbours, forth and back, which keeps most arrows from crossing."""
    pairs = list(_neighbours(edges))
    for sweep in range(6):
        place = {id(node): i for layer in layers for i, node in enumerate(layer)}
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {}
            for i, node in enumerate(layer):
                beside = (
                    [place[id(a)] for a, b in pairs if b is node]
                    if sweep % 2 == 0
                    else [place[id(b)] for a, b in pairs if a is node]
                )
                wanted[id(node)] = sum(beside) / len(beside) if beside else float(i)
            layer.sort(key=lambda node: wanted[id(node)])
            place |= {id(node): i for i, node in enumerate(layer)}


def _place(layers: Sequence[list[Node]], edges: Sequence[Edge], *, sideways: bool) -> tuple[float, float]:
    """Gives every node its place; returns width and height of the chart."""
    thick = (lambda node: node.width) if sideways else (lambda node: node.height)
    broad = (lambda node: node.height) if sideways else (lambda node: node.width)
    pairs, along = list(_neighbours(edges)), 0.0
    for number, layer in enumerate(layers):
        depth, across = max(map(thick, layer)), 0.0
        for node in layer:
            node.along, node.across = along + depth / 2, across + broad(node) / 2
            across += broad(node) + _APART
        labels = [edge.label for edge in edges if edge.label and edge.path[0].layer == number]
        widest = max((max(map(len, label)) * _CHAR + 34.0 for label in labels), default=0.0)
        room = widest if sideways else max((_LINE * len(label) for label in labels), default=0.0)
        along += depth + (max(_BETWEEN, room) if sideways else _BETWEEN - 12.0 + room)
    for sweep in range(30):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            for node in layer:
                beside = [a.across for a, b in pairs if b is node] + [b.across for a, b in pairs if a is node]
                node.across = sum(beside) / len(beside) if beside else node.across
            for _ in layer:  # neighbours push each other apart until all have room
                for a, b in pairwise(layer):
                    short = (broad(a) + broad(b)) / 2 + _APART - (b.across - a.across)
                    if short > 0.0:
                        a.across, b.across = a.across - short / 2, b.across + short / 2
    everything = [node for layer in layers for node in layer]
    low = min(node.across - broad(node) / 2 for node in everything) - 2.0
    for node in everything:
        node.across, node.along = node.across - low, node.along + 2.0
    size = max(node.across + broad(node) / 2 for node in everything) + 2.0
    length = max(node.along + thick(node) / 2 for node in everything) + 4.0
    return (length, size) if sideways else (size, length)


def _arrow(edge: Edge, at: Any, *, sideways: bool) -> Iterator[str]:
    """A curve through an arrow's bends, its head, and its label beside the beginning."""
    points = [at(node) for node in edge.path]
    half = [(node.width if sideways else node.height) / 2 for node in (edge.path[0], edge.path[-1])]
    axis = 0 if sideways else 1
    start, end = list(points[0]), list(points[-1])
    start[axis] += half[0]
    end[axis] -= half[1]
    points[0], points[-1] = tuple(start), tuple(end)
    way = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        mx, my = (x0 + x1) / 2, (y0 + y1) / 2
        way += (
            f" C{mx:.1f} {y0:.1f} {mx:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
            if sideways
            else (f" C{x0:.1f} {my:.1f} {x1:.1f} {my:.1f} {x1:.1f} {y1:.1f}")
        )
    dashes = ' stroke-dasharray="4 3"' if edge.kind == "-.->" else ""
    yield f'<path d="{way}" fill="none" stroke="currentColor"{dashes}/>'
    if edge.kind != "---":
        yield _head(*points[-1], sideways=sideways)
    if edge.label:
        (x0, y0), (x1, y1) = points[:2]
        top = (y0 + y1) / 2 - _LINE * (len(edge.label) - 1) + (-6.0 if sideways else 4.0)
        for number, line in enumerate(edge.label):
            yield _text((x0 + x1) / 2, top + _LINE * number, line, clear=True)


def _head(x: float, y: float, *, sideways: bool) -> str:
    back = [(x - 8, y - 4), (x - 8, y + 4)] if sideways else [(x - 4, y - 8), (x + 4, y - 8)]
    return '<polygon points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in [(x, y), *back]) + '"/>'


def _shape(node: Node, x: float, y: float) -> str:
    w, h = node.width, node.height
    left, top, look = x - w / 2, y - h / 2, 'fill="#009688" fill-opacity="0.12" stroke="#009688"'
    if node.shape == _BARREL:
        side = f"M{left:.1f} {top + 5:.1f} V{top + h - 5:.1f} A{w / 2:.1f} 5 0 0 0 {left + w:.1f} {top + h - 5:.1f} V{top + 5:.1f}"
        outline = f'<path d="{side}" {look}/><ellipse cx="{x:.1f}" cy="{top + 5:.1f}" rx="{w / 2:.1f}" ry="5" {look}/>'
    elif node.shape == _CHOICE:
        ends = [(left, y), (left + 12, top), (left + w - 12, top), (left + w, y), (left + w - 12, top + h), (left + 12, top + h)]
        outline = f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in ends)}" {look}/>'
    else:
        round_ = h / 2 if node.shape == _ROUND else 4
        outline = f'<rect x="{left:.1f}" y="{top:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{round_:.1f}" {look}/>'
    base = y - (len(node.lines) - 1) * _LINE / 2 + 4.5 + (3.0 if node.shape == _BARREL else 0.0)
    return outline + "".join(_text(x, base + i * _LINE, line) for i, line in enumerate(node.lines))


def _text(x: float, y: float, text: str, *, anchor: str = "middle", clear: bool = False) -> str:
    """One line of text; `clear` keeps lines behind it from crossing its letters."""
    behind = ' paint-order="stroke" stroke="var(--md-default-bg-color)" stroke-width="4"' if clear else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{behind}>{escape(text)}</text>'


# ------------------------------------------------------------------------------------------- states in a row, sequences


def _states(lines: Sequence[str]) -> tuple[list[str], float, float]:
    """States from left to right as they are named; ways back run below them, and a state that stays as it is has a loop above."""
    nodes: dict[str, Node] = {}
    moves: list[tuple[Node, Node, str]] = []
    for line in lines:
        match = re.fullmatch(r"(\w+) --> (\w+)(?:: (.*))?", line)
        if match is None:
            raise DiagramError(f"cannot read {line!r}; known: A --> B: what happens")
        ends = [
            nodes.setdefault(name, Node(name=name, shape=_ROUND, lines=[name], layer=len(nodes))) for name in match.groups()[:2]
        ]
        moves.append((ends[0], ends[1], match[3] or ""))
    x, y = 2.0, 2.0 + 46.0 * any(a is b for a, b, _ in moves)
    for node in nodes.values():
        node.along, node.across = x + node.width / 2, y + node.height / 2
        labels = [label for a, b, label in moves if a is node and b.layer == a.layer + 1]
        x += node.width + max(_BETWEEN, *(len(label) * _CHAR + 30.0 for label in labels), 0.0)
    width = max(node.along + node.width / 2 for node in nodes.values()) + 4.0
    parts, bottom = [], y + next(iter(nodes.values())).height
    for number, (a, b, label) in enumerate(sorted(moves, key=lambda move: abs(move[0].layer - move[1].layer))):
        if b.layer == a.layer + 1:
            left, right, middle = a.along + a.width / 2, b.along - b.width / 2, a.across
            parts.append(
                f'<path d="M{left:.1f} {middle:.1f} H{right:.1f}" stroke="currentColor"/>{_head(right, middle, sideways=True)}'
            )
            parts.append(_text((left + right) / 2, middle - 6.0, label))
        elif a is b:
            top = a.across - a.height / 2
            x, peak = a.along, top - 34.0
            loop = f"M{x - 14:.1f} {top:.1f} C{x - 40:.1f} {peak:.1f} {x + 40:.1f} {peak:.1f} {x + 14:.1f} {top:.1f}"
            parts.append(f'<path d="{loop}" fill="none" stroke="currentColor"/>{_head(a.along + 14, top, sideways=False)}')
            parts.append(_text(min(a.along, width - len(label) * _CHAR / 2), top - 32.0, label))
        else:
            low, here, there = a.across + a.height / 2, a.along - 8.0 * number, b.along + 8.0 * (3 - number)
            bottom += 36.0
            parts.append(
                f'<path d="M{here:.1f} {low:.1f} V{bottom:.1f} H{there:.1f} V{low:.1f}" fill="none" stroke="currentColor"/>'
            )
            parts.append(f'<polygon points="{there:.1f},{low:.1f} {there - 4:.1f},{low + 8:.1f} {there + 4:.1f},{low + 8:.1f}"/>')
            parts.append(_text((here + there) / 2, bottom - 6.0, label, clear=True))
    return parts + [_shape(node, node.along, node.across) for node in nodes.values()], width, bottom + 8.0


def _sequence(lines: Sequence[str]) -> tuple[list[str], float, float]:
    """Participants from left to right, messages from top to bottom."""
    nodes: dict[str, Node] = {}
    rows: list[tuple[str, str, list[str]]] = []
    for line in lines:
        if match := re.fullmatch(r"participant (\w+) as (.+)", line):
            nodes[match[1]] = Node(name=match[1], lines=[match[2]])
        elif match := re.fullmatch(r"(\w+)->>(\w+): (.+)", line):
            rows.append((match[1], match[2], [match[3]]))
        elif match := re.fullmatch(r"Note over (\w+): (.+)", line):
            rows.append((match[1], "", re.split(r"<br ?/?>", match[2])))
        else:
            raise DiagramError(f"cannot read {line!r}; known: participant A as name, A->>B: message, Note over A: text")
    longest = max((len(text) * _CHAR + 40.0 for _, b, (text, *_) in rows if b), default=0.0)
    wide = max((max(map(len, text)) * _CHAR + 2 * _PAD for _, b, text in rows if not b), default=0.0)
    for number, node in enumerate(nodes.values()):
        node.along, node.across = max(node.width, wide) / 2 + 2.0 + number * max(longest, wide + 24.0), 20.0
    parts, y = [], 40.0
    for here, there, text in rows:
        a = nodes[here]
        if there:
            b = nodes[there]
            y += 40.0
            ahead = b.along > a.along
            parts.append(f'<path d="M{a.along:.1f} {y:.1f} H{b.along:.1f}" stroke="currentColor"/>')
            tip = b.along
            back = tip - 8.0 if ahead else tip + 8.0
            parts.append(f'<polygon points="{tip:.1f},{y:.1f} {back:.1f},{y - 4:.1f} {back:.1f},{y + 4:.1f}"/>')
            parts.append(_text((a.along + b.along) / 2, y - 6.0, text[0]))
        else:
            note = Node(name=here, lines=text)
            y += 14.0 + note.height
            parts.append(f'<g stroke-dasharray="4 3">{_shape(note, a.along, y - note.height / 2)}</g>')
    height = y + 24.0
    lifelines = [
        f'<path d="M{n.along:.1f} 34 V{height - 4:.1f}" stroke="currentColor" stroke-opacity="0.4"/>' for n in nodes.values()
    ]
    width = max(node.along + max(node.width, wide) / 2 for node in nodes.values()) + 4.0
    return [*lifelines, *parts, *(_shape(node, node.along, node.across) for node in nodes.values())], width, height
