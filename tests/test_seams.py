"""Whoever uses a thing asks it, through what it shows to everybody: laws over the source that keep the seams seams."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("embodichain/**/*.py"), *ROOT.glob("learner/**/*.py")])
RINGS = {"Ring", "ControlRing", "DeviceRing", "RemoteRing", "AnyRing"}
HANDED_OUT = {"Slot", "DeviceSlot", "AnySlot", "Lease", "DeviceLease", "AnyLease", "Sample", "DeviceSample"}
NAMED_TUPLE = {"_replace", "_fields", "_asdict", "_make"}
FOREIGN = {
    ("stepping.py", "_address"),
    ("render.py", "_src"),
    ("render.py", "_build_megakernel"),
    ("render.py", "_megakernel"),
    ("looks.py", "_cache"),
}
"""What MuJoCo and its renderer have no public name for; and trimesh, for whether normals were stated in a file or computed."""


def own(tree: ast.AST) -> set[str]:
    """Private names that a file gives to its classes and their objects: by definition, assignment or annotation."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            found |= {node.attr} if node.value.id == "self" else set()
    return found


def reaches(path: Path) -> list[str]:
    """Every `thing._name` of a file where the file itself does not give things that name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names, found = own(tree), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        parent = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
        if not itself and not parent and node.attr not in names | NAMED_TUPLE and (path.name, node.attr) not in FOREIGN:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    return found


def test_nobody_reaches_into_what_is_private_to_another():
    assert not [reach for path in SOURCES for reach in reaches(path)]


def test_nobody_asks_which_kind_of_ring_slot_or_lease_it_has():
    asked = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass", "type"):
                names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
                if names & (RINGS | HANDED_OUT):
                    asked.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert not asked


def test_only_the_rooms_of_robots_and_physics_speak_mujoco_and_two_files_of_assets():
    homes = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(module.split(".")[0] == "mujoco" for module in modules):
                homes.add(path.relative_to(ROOT))
    elsewhere = {home for home in homes if home.parts[:2] not in (("embodichain", "robots"), ("embodichain", "physics"))}
    assert len(elsewhere) <= 2 and all(home.parts[:2] == ("embodichain", "assets") for home in elsewhere), elsewhere
