"""The picture in the README is the import graph: these laws keep it so."""

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("embodichain/**/*.py"), *ROOT.glob("learner/**/*.py")])

TIER_0 = {"types", "errors", "protocols", "extras", "registry", "processes"}
PARTS = {"robots", "assets", "scenes", "expand", "recovery", "motion", "tasks", "physics", "ring"}
TIERS = {**dict.fromkeys(TIER_0, 0), **dict.fromkeys(PARTS, 1), "metrics": 1, "export": 1}
TIERS |= {
    "episode": 1.9,
    "rollout": 2,
    "config": 1.5,
    "world": 1.6,
    "prepare": 1.7,
    "stages": 2.1,
    "engine": 2.2,
    "ray_engine": 3,
    "commands": 3.1,
    "cli": 3.2,
}
ARROWS = {  # which part may import which: the arrows of the picture
    ("motion", "robots"),
    ("scenes", "motion"),
    ("scenes", "robots"),
    ("scenes", "expand"),
    ("scenes", "assets"),
    ("tasks", "motion"),
    ("tasks", "recovery"),
    ("recovery", "motion"),
    ("physics", "robots"),
    ("physics", "motion"),
    ("tasks", "physics"),
}
LEARNER_MAY_IMPORT = {"types", "ring", "errors", "registry"}
COMPOSITION_ROOTS = {"commands", "evaluation", "reporting", "runs", "serving"}
"""Rooms of the learner that may use all of the engine."""
HEAVY = {"ray", "newton", "warp", "mujoco_warp", "isaacsim", "pytorch_lightning", "lightning", "transformers", "pxr"}


def imports_of(path: Path) -> set[str]:
    """Absolute module names that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def room(module: str) -> str | None:
    """The room of embodichain that a module name belongs to."""
    parts = module.split(".")
    return parts[1] if parts[0] == "embodichain" and len(parts) > 1 and not parts[1].startswith("__") else None


def room_of_file(path: Path) -> str:
    return path.relative_to(ROOT / "embodichain").parts[0].removesuffix(".py")


def engine_edges() -> set[tuple[str, str, str]]:
    edges = set()
    for path in ROOT.glob("embodichain/**/*.py"):
        here = room_of_file(path)
        if here == "__init__":
            continue
        for module in imports_of(path):
            there = room(module)
            if there and there != here:
                edges.add((here, there, str(path.relative_to(ROOT))))
    return edges


def test_every_room_has_a_tier():
    rooms = {room_of_file(path) for path in ROOT.glob("embodichain/**/*.py")} - {"__init__"}
    assert rooms <= set(TIERS), f"rooms without a place in the picture: {sorted(rooms - set(TIERS))}"


def test_imports_point_downward():
    wrong = [e for e in engine_edges() if TIERS[e[1]] >= TIERS[e[0]] and not (TIERS[e[0]] == TIERS[e[1]] and e[:2] in ARROWS)]
    wrong = [e for e in wrong if not (e[0] in TIER_0 and e[1] in TIER_0)]
    assert not wrong, f"upward or unlisted imports: {sorted(wrong)}"


def test_parts_have_no_cycle():
    graph: dict[str, set[str]] = {}
    for here, there, _ in engine_edges():
        graph.setdefault(here, set()).add(there)

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph.get(start, ()))
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += graph.get(node, ())
        return seen

    assert not [name for name in graph if name in reach(name)]


def test_engine_never_imports_learner():
    assert not [p for p in ROOT.glob("embodichain/**/*.py") if any(m.split(".")[0] == "learner" for m in imports_of(p))]


def test_learner_imports_only_types_and_ring_of_the_engine():
    for path in ROOT.glob("learner/*/**/*.py"):
        if path.relative_to(ROOT / "learner").parts[0] in COMPOSITION_ROOTS:
            continue
        rooms = {r for r in map(room, imports_of(path)) if r}
        assert rooms <= LEARNER_MAY_IMPORT, f"{path.name} imports {sorted(rooms - LEARNER_MAY_IMPORT)} of the engine"


def test_heavy_imports_live_in_one_file_each():
    homes: dict[str, set[str]] = {}
    for path in SOURCES:
        for module in imports_of(path):
            top = module.split(".")[0]
            if top in HEAVY:
                homes.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in homes.items() if len(files) > 1}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("learner.data.dataset", "mujoco ray pytorch_lightning lightning transformers warp pxr"),
        ("embodichain.types", "torch mujoco ray numba pxr warp"),
        ("embodichain.ring", "torch mujoco ray pxr warp"),
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
    def once() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "embodichain.cli", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(once() for _ in range(5)) < 0.15


def test_files_stay_small():
    everything = [*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    assert not {str(p.relative_to(ROOT)): n for p in everything if (n := len(p.read_text().splitlines())) > 500}


def test_no_room_for_leftovers():
    assert not [p for p in SOURCES if re.fullmatch(r"(utils?|common|helpers?|manager|misc)", p.stem)]


def test_importing_a_module_prints_nothing_and_says_what_it_is_for():
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no first line"


def test_readme_shows_every_room():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [
        name for name in [*PARTS, "rollout", "stages", "engine", "ray_engine"] if f"`{name}" not in readme and name not in readme
    ]
    assert not missing
