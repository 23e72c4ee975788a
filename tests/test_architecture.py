"""The picture in the README is the import graph, and every file is where a reader looks for it: these laws keep it so.

Each law is a function of a source tree that returns its breaches. `test_architecture_mutants.py` plants breaches in a copy of the
tree and asks the laws to see them.
"""

import ast
import os
import re
import subprocess
import sys
import time
from typing import TypeGuard

import pytest
from architecture import BELOW, House, circles, depths, mermaid, nodes, room, unparsed

FLOORS = 9
"""Most floors that the learner's rooms may stand on."""
DEPTH = 16
"""Most files that a chain of imports may have."""
ROOMS_OF_ASSETS = 9
MUJOCO_ELSEWHERE = 2
"""Files outside physics and robots that may speak MuJoCo."""
LEARNER_KNOWS = {"types", "errors", "lazy", "lines", "registry", "ring", "progress"}
"""Rooms of the engine that any room of the learner may use."""
COMPOSITION_ROOTS = {"learner.commands", "learner.evaluation", "learner.reporting", "learner.runs", "learner.serving"}
"""Rooms of the learner that may use all of the engine: they bring both together."""
HEAVY = {"ray", "newton", "warp", "mujoco_warp", "isaacsim", "pytorch_lightning", "lightning", "transformers", "pxr"}
"""Packages that take seconds to import: one file each."""
_WARP = ("embodichain.physics.warp.", "embodichain.physics.render.")
HOMES = {"ray": ("embodichain.ray_engine.",), "pxr": ("embodichain.assets.usd.",), "warp": _WARP, "mujoco_warp": _WARP}
"""Rooms that count as one file."""
IMPORT_BY_NAME = {
    "embodichain.cli",
    "embodichain.config",
    "embodichain.isaac.server",  # modules of an interpreter that is not ours
    "embodichain.lazy",
    "embodichain.processes",
    "embodichain.registry",
    "embodichain.ring.cuda",
    "embodichain.assets.usd.validators",
    "learner",
}
"""Where a module may be imported whose name is only known when the program runs: what users name, and optional packages."""
FAMILY_KNOWN = {"learner.models.families", "learner.runs.recipes"}
"""The list of the families, and who chooses one and its size: whole configurations."""
SAME_ROLE = {"Draws", "Noise", "Remembered", "Started", "Lease", "Leased", "Policy"}
"""Names of a role that several model families fill, or that a protocol shares with who fills it."""
LAWS = {}


def law(function):
    """A law of the house: takes a `House`, returns its breaches."""
    LAWS[function.__name__] = function
    return function


# --------------------------------------------------------------------------------------------------------------- imports


@law
def no_file_reaches_itself(house: House) -> list[str]:
    """Neither by imports, those for type checkers included, nor by names in strings."""
    return circles({name: house.imports[name] | house.named[name] for name in house.files})


@law
def no_room_reaches_itself(house: House) -> list[str]:
    """Rooms have floors: whoever is used knows nothing of who uses it."""
    return circles(house.rooms)


@law
def what_everybody_uses_uses_nothing(house: House) -> list[str]:
    """Types, errors, protocols and their like stand below everything."""
    return [f"{here} imports {there}" for here in BELOW & house.rooms.keys() for there in house.rooms[here] - BELOW]


@law
def the_engine_knows_no_learner(house: House) -> list[str]:
    """The command line alone names the learner's commands, in strings."""
    return [
        f"{name} imports {other}"
        for name in house.files
        if name.startswith("embodichain")
        for other in house.imports[name] | (house.named[name] if name != "embodichain.cli" else set())
        if other.split(".")[0] == "learner"
    ]


@law
def the_learner_knows_little_of_the_engine(house: House) -> list[str]:
    """Training, models and inference run without a simulator."""
    return [
        f"{name} imports {other}"
        for name in house.files
        if name.startswith("learner.") and room(name) not in COMPOSITION_ROOTS
        for other in house.imports[name] | house.named[name]
        if other.startswith("embodichain.") and room(other) not in LEARNER_KNOWS
    ]


@law
def imports_by_name_are_counted(house: House) -> list[str]:
    """A module that is imported by a computed name is seen by no law, so few files may do that."""
    called = re.compile(r"\b(import_module|__import__|runpy|resolve_name|spec_from_file_location|exec)\b")
    return [name for name in house.files if name not in IMPORT_BY_NAME and called.search(unparsed(house.trees[name]))]


@law
def names_in_strings_lead_somewhere(house: House) -> list[str]:
    """But for those that earlier versions used, in the table of them."""
    assert house.named
    return [f"{name} names {lost}" for name, lost in house.lost.items() if name != "learner.runs.old_names"]


@law
def imports_are_not_too_deep(house: House) -> list[str]:
    """Whoever changes a file need not follow its users for ever."""
    return [f"{name} stands on {depth - 1} others" for name, depth in depths(house.imports).items() if depth > DEPTH]


@law
def heavy_packages_have_one_home_each(house: House) -> list[str]:
    """So that nobody else pays for them, and they can be replaced: a file, or for Ray and pxr the room that is made of it."""
    homes: dict[str, set[str]] = {}
    for name in house.files:
        for other in house.imported_names(name):
            if (top := other.split(".")[0]) in HEAVY:
                home = HOMES.get(top, ())
                homes.setdefault(top, set()).add(home[0] if home and f"{name}.".startswith(home) else name)
    return [f"{package}: {sorted(files)}" for package, files in homes.items() if len(files) > 1]


@law
def few_files_speak_mujoco(house: House) -> list[str]:
    """The simulator is behind `physics` and `robots`."""
    inside = ("embodichain.physics", "embodichain.robots")
    found = [n for n in house.files if not n.startswith(inside) and "mujoco" in {i.split(".")[0] for i in house.imported_names(n)}]
    return found if len(found) > MUJOCO_ELSEWHERE else []


@law
def a_name_has_one_path(house: House) -> list[str]:
    """What is imported from a file is defined there; only a package's `__init__` passes names on."""
    found = []
    for name in house.files:
        for node in nodes(house.trees[name]):
            if isinstance(node, ast.ImportFrom) and node.module in house.files and house.files[node.module].name != "__init__.py":
                known = _defined(house.trees[node.module])
                found += [f"{name} takes {a.name} from {node.module}" for a in node.names if a.name not in known]
    return found


def _defined(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


# ----------------------------------------------------------------------------------------------------------------- rooms


@law
def the_picture_in_the_readme_is_the_graph(house: House) -> list[str]:
    """All arrows, and no other: `python tests/architecture.py` prints what belongs there."""
    drawn, true = house.drawn(), house.picture
    return [f"not drawn: {a} --> {b}" for a, b in sorted(true - drawn)] + [
        f"not true: {a} --> {b}" for a, b in sorted(drawn - true)
    ]


@law
def the_readme_names_every_room(house: House) -> list[str]:
    """In its tables, where a line says what the room is for."""
    readme = (house.root / "README.md").read_text(encoding="utf-8")
    return [name for name in house.rooms if f"`{name.replace('.', '/')}`" not in readme]


@law
def the_learner_has_rooms_on_few_floors(house: House) -> list[str]:
    """Nothing lies in its root."""
    loose = [name for name, path in house.files.items() if path.parent == house.root / "learner" and path.name != "__init__.py"]
    graph = {
        here: {t for t in there if t.startswith("learner.")} for here, there in house.rooms.items() if here.startswith("learner.")
    }
    return loose + [f"{name} is on floor {floor}" for name, floor in depths(graph).items() if floor > FLOORS]


@law
def assets_have_rooms(house: House) -> list[str]:
    """Nothing lies in their root, and they are few."""
    root = house.root / "embodichain" / "assets"
    rooms = {path.parent for path in root.glob("*/*.py")}
    loose = [str(path.name) for path in root.glob("*.py") if path.name != "__init__.py"]
    return loose + (sorted(path.name for path in rooms) if len(rooms) > ROOMS_OF_ASSETS else [])


@law
def families_are_named_nowhere_else(house: House) -> list[str]:
    """A family of world models is known inside its folder, and by the one line that registers it."""
    found = []
    for folder in _families(house):
        word, inside = folder.replace("_", "").capitalize(), f"learner.models.{folder}"
        found += [
            name for name in house.files if not name.startswith(inside) and word in house.files[name].read_text(encoding="utf-8")
        ]
    return found


@law
def families_are_reached_by_recipes_alone(house: House) -> list[str]:
    """Training, inference, evaluation and serving know none of them, and no family another."""
    inside = {folder: f"learner.models.{folder}" for folder in _families(house)}
    return [
        f"{name} imports {other}"
        for name in house.files
        for here in inside.values()
        for other in house.imports[name] | house.named[name]
        if f"{other}.".startswith(f"{here}.") and not f"{name}.".startswith(f"{here}.") and name not in FAMILY_KNOWN
    ]


def _families(house: House) -> list[str]:
    folders = (house.root / "learner" / "models").iterdir()
    return [folder.name for folder in folders if folder.is_dir() and any(folder.glob("*.py"))]


# ----------------------------------------------------------------------------------------------------------------- files


@law
def a_class_name_has_one_meaning(house: House) -> list[str]:
    """Whoever reads a name need not ask of which file it is."""
    homes: dict[str, list[str]] = {}
    for name, tree in house.trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name not in SAME_ROLE:
                homes.setdefault(node.name, []).append(name)
    return [f"{name}: {', '.join(sorted(modules))}" for name, modules in sorted(homes.items()) if len(modules) > 1]


@law
def libraries_do_not_print(house: House) -> list[str]:
    """Commands speak; everything else returns, raises, logs or tells the board of a run, under whatever name it would print."""
    may = ("embodichain.commands", "embodichain.cli", "learner.commands")
    return [
        f"{name}:{node.lineno}"
        for name, tree in house.trees.items()
        if not name.startswith(may)
        for node in nodes(tree)
        if _speaks(node)
    ]


def _speaks(node: ast.AST) -> TypeGuard[ast.expr | ast.stmt]:
    """Whether a node names `print`, the module that holds it, a printer of its own, or a stream of the process."""
    if isinstance(node, ast.Name):
        return node.id == "print"
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    if isinstance(node, ast.Import):
        return any(alias.name in {"builtins", "pprint"} for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (
        node.module in {"builtins", "pprint"}
        or (node.module, "print") in {(node.module, alias.name) for alias in node.names}
        or (node.module == "sys" and any(alias.name in {"stdout", "stderr"} for alias in node.names))
    )


@law
def files_stay_small(house: House) -> list[str]:
    """500 lines at most, 300 as a rule."""
    everything = [*house.files.values(), *house.root.glob("tests/**/*.py"), *house.root.glob("benchmarks/**/*.py")]
    return [f"{path.relative_to(house.root)}: {n}" for path in everything if (n := len(path.read_text().splitlines())) > 500]


@law
def there_is_no_room_for_leftovers(house: House) -> list[str]:
    """Names say what is inside: of files, and of the folders that they lie in."""
    vague = re.compile(r"(utils?|common|helpers?|manager|misc)")
    return [name for name in house.files if any(vague.fullmatch(part) for part in name.split("."))]


@law
def files_say_what_they_are_for(house: House) -> list[str]:
    """In their first line."""
    return [name for name, tree in house.trees.items() if not ast.get_docstring(tree)]


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.mark.parametrize("name", LAWS)
def test_law(house, name):
    assert LAWS[name](house) == [], f"{LAWS[name].__doc__}\n{mermaid(house) if 'picture' in name else ''}"


# ----------------------------------------------------------------------------------------------------------------- speed


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("learner.data.dataset", "mujoco ray pytorch_lightning lightning transformers warp pxr"),
        ("learner.runs.recipes", "torch mujoco ray numba pytorch_lightning transformers warp pxr tyro"),
        ("embodichain.types", "torch mujoco ray numba pxr warp"),
        ("embodichain.ring.ring", "torch mujoco ray pxr warp"),
        ("embodichain.engine", "ray torch pytorch_lightning transformers pxr warp"),
        ("embodichain.cli", "numpy torch mujoco ray numba tyro rich"),
    ],
)
def test_imports_are_light(module: str, forbidden: str):
    code = f"import {module}, sys; print([m for m in {forbidden.split()!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_answers_within_300_ms():
    def once() -> float:
        before = time.perf_counter()
        subprocess.run([sys.executable, "-m", "embodichain.cli", "--help"], capture_output=True, check=True)
        return time.perf_counter() - before

    assert any(once() < 0.3 for _ in range(40)), "others on this machine may hold up a few of forty"


def test_help_takes_little_processor_time():
    """At most 0.15 s where importing NumPy takes 0.12 s; a slower or busier machine makes both longer alike."""

    def once(*command: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(once("-m", "embodichain.cli", "--help") / once("-c", "import numpy") for _ in range(5)) < 0.15 / 0.12
