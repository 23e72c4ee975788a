"""What the laws of the house are made of: who imports whom, and the picture that the README shows of it.

`python tests/architecture.py` prints that picture as the code would have it.
"""

import ast
import re
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("embodichain", "learner")
BELOW = {
    "cache",
    "command_line",
    "errors",
    "extras",
    "lazy",
    "lines",
    "machine_code",
    "processes",
    "progress",
    "protocols",
    "registry",
    "types",
}
"""What everybody may use: left out of the picture, and using nothing of it."""
_NAME = re.compile(r"(embodichain|learner)(\.[a-z_0-9]+)+(:[A-Za-z_][\w.]*)?")


@lru_cache(maxsize=4096)
def parsed(text: str) -> ast.Module:
    """The syntax tree of a file. Laws look at it and change nothing, so all houses share what they have in common."""
    return ast.parse(text)


_nodes: dict[ast.Module, list[ast.AST]] = {}
_texts: dict[ast.Module, str] = {}


def nodes(tree: ast.Module) -> list[ast.AST]:
    """Everything in a tree, in the order of `ast.walk`."""
    if tree not in _nodes:
        _nodes[tree] = list(ast.walk(tree))
    return _nodes[tree]


def unparsed(tree: ast.Module) -> str:
    """The tree as text, without comments."""
    if tree not in _texts:
        _texts[tree] = ast.unparse(tree)
    return _texts[tree]


class House:
    """The source tree at `root`: its modules, what each imports, and the rooms they make."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.lost: dict[str, set[str]] = {}
        """Strings of the form "package.module:Name" whose module does not exist, by the module that holds them; see `named`."""

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every module by name; a package's `__init__` has the package's name."""
        found = {}
        for package in PACKAGES:
            for path in sorted((self.root / package).rglob("*.py")):
                found[".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")] = path
        return found

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of every module."""
        return {name: parsed(path.read_text(encoding="utf-8")) for name, path in self.files.items()}

    def imported_names(self, module: str) -> set[str]:
        """Absolute names that a module imports anywhere in it, for type checkers included; of other packages too.

        What is reached through a package that imports its rooms on first use counts too, as in `embodichain.engine`.
        """
        found: set[str] = set()
        if any(
            alias.name in PACKAGES for node in nodes(self.trees[module]) if isinstance(node, ast.Import) for alias in node.names
        ):
            reached = {ast.unparse(node) for node in nodes(self.trees[module]) if isinstance(node, ast.Attribute)}
            found |= reached & self.files.keys()
        for node in nodes(self.trees[module]):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: relative import"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in self.files else str(node.module))
        return found

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """The modules of this house that each imports by a statement."""
        return {name: (self.imported_names(name) & self.files.keys()) - {name} for name in self.files}

    @cached_property
    def named(self) -> dict[str, set[str]]:
        """The modules of this house that each names in a string, as "package.module" or "package.module:Name"."""
        return {name: self._strings(name) - {name} for name in self.files}

    def _strings(self, module: str) -> set[str]:
        found, calls = set(), [node for node in nodes(self.trees[module]) if isinstance(node, ast.Call)]
        # The second argument of a Registry is a group of entry points, which some rooms share their name with.
        groups = {id(call.args[1]) for call in calls if ast.unparse(call.func).startswith("Registry") and len(call.args) > 1}
        for node in nodes(self.trees[module]):
            if (
                id(node) not in groups
                and isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and (match := _NAME.fullmatch(node.value))
            ):
                target = match[0].partition(":")[0]
                if target in self.files:
                    found.add(target)
                elif ":" in match[0]:
                    self.lost.setdefault(module, set()).add(match[0])
        return found

    @cached_property
    def rooms(self) -> dict[str, set[str]]:
        """The rooms that each room imports, or names in strings."""
        found: dict[str, set[str]] = {room(name): set() for name in self.files if room(name)}
        for name in self.files:
            if here := room(name):
                found[here] |= {
                    there for other in self.imports[name] | self.named[name] if (there := room(other)) and there != here
                }
        return found

    @cached_property
    def picture(self) -> set[tuple[str, str]]:
        """The arrows that the README draws: of all that rooms import, those that no other way of arrows implies."""
        graph = {here: there - BELOW for here, there in self.rooms.items() if here not in BELOW}
        reached = {here: reach(graph, here) for here in graph}
        return {
            (here, there)
            for here, others in graph.items()
            for there in others
            if not any(there in reached[other] for other in others - {there})
        }

    def drawn(self) -> set[tuple[str, str]]:
        """The arrows of the picture in the README, as (who imports, who is imported)."""
        readme = (self.root / "README.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```mermaid\n(.*?)```", readme, re.DOTALL)
        lines = [line.strip() for line in blocks[0].splitlines()] if blocks else []
        chains = [re.split(r"\s*-->\s*", line) for line in lines if "-->" in line]
        return {
            (_plain(here), _plain(there))
            for chain in chains
            for left, right in pairwise(chain)
            for here in left.split(" & ")
            for there in right.split(" & ")
        }


def room(module: str) -> str:
    """The room of a module: a folder or file of the engine by its name, a folder of the learner as "learner.NAME"; "" for roots."""
    parts = module.split(".")
    if len(parts) == 1:
        return ""
    return parts[1] if parts[0] == "embodichain" else ".".join(parts[:2])


def reach(graph: dict[str, set[str]], start: str) -> set[str]:
    """Everything that can be reached from `start` by one step or more."""
    seen: set[str] = set()
    todo = list(graph.get(start, ()))
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += graph.get(node, ())
    return seen


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Everything that reaches itself."""
    return sorted(node for node in graph if node in reach(graph, node))


def depths(graph: dict[str, set[str]]) -> dict[str, int]:
    """How long the longest way down from each node is, itself counted; a way that comes back to where it was ends there."""
    known: dict[str, int] = {}

    def depth(node: str, above: frozenset[str] = frozenset()) -> int:
        if node not in known:
            below = graph.get(node, set()) - above - {node}
            known[node] = 1 + max((depth(one, above | {node}) for one in below), default=0)
        return known[node]

    for node in graph:
        depth(node)
    return known


def _plain(node: str) -> str:
    return re.split(r"[\[({]", node.strip())[0].strip()


def mermaid(house: House) -> str:
    """The picture as the README's mermaid block: who imports whom, from the commands down."""
    below: dict[str, set[str]] = {}
    for here, there in house.picture:
        below.setdefault(here, set()).add(there)
    deep = depths(below)
    lines = ["flowchart TB"]
    for here in sorted(below, key=lambda name: (-deep[name], name)):
        lines.append(f"  {here} --> {' & '.join(sorted(below[here]))}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(mermaid(House()))
