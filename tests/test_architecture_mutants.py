"""The laws of the house bite: each of these breaches, planted in a copy of the source, is seen by the law that forbids it."""

import shutil
from pathlib import Path

import pytest
from architecture import ROOT, House
from test_architecture import LAWS


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """A copy of the sources and of the README."""
    copy = tmp_path_factory.mktemp("house")
    for package in ("embodichain", "learner"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copy(ROOT / "README.md", copy)
    return copy


@pytest.fixture
def planted(clean, tmp_path) -> Path:
    """A copy of that copy, to plant a breach in."""
    copy = tmp_path / "house"
    shutil.copytree(clean, copy)
    return copy


def append(file: str, text: str):
    def plant(root: Path) -> None:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else '"""What it is for."""\n') + text)

    return plant


def replace(file: str, old: str, new: str):
    def plant(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new))

    return plant


MUTANTS = {
    "a print in a library": ("libraries_do_not_print", append("learner/training/optimizer.py", "\nprint('here')\n")),
    "a print deep in a room": (
        "libraries_do_not_print",
        append("embodichain/assets/chain/new/deep.py", "\ndef f() -> None:\n    print(1)\n"),
    ),
    "a print under another name": (
        "libraries_do_not_print",
        append("learner/training/optimizer.py", "\nfrom builtins import print as say\n"),
    ),
    "a print that is kept for later": ("libraries_do_not_print", append("learner/training/optimizer.py", "\nsay = print\n")),
    "a line to the standard output": (
        "libraries_do_not_print",
        append("embodichain/stages.py", "\nimport sys\n\nsys.stdout.write('here')\n"),
    ),
    "a subfolder that imports the engine": (
        "the_learner_knows_little_of_the_engine",
        append("learner/models/clwm/inner/world.py", "\nfrom embodichain.world import World\n"),
    ),
    "a new room of the learner that imports the engine": (
        "the_learner_knows_little_of_the_engine",
        append("learner/dreams/world.py", "\nfrom embodichain.physics.mujoco import MujocoPhysics\n"),
    ),
    "an engine reached through its package": (
        "the_learner_knows_little_of_the_engine",
        append("learner/data/windows.py", "\nimport embodichain\n\nENGINE = embodichain.engine\n"),
    ),
    "a new room that nobody drew": (
        "the_picture_in_the_readme_is_the_graph",
        append("learner/dreams/world.py", "\nfrom learner.records import plain\n"),
    ),
    "a circle of two files": (
        "no_file_reaches_itself",
        append("embodichain/ring/lease.py", "\nfrom embodichain.ring.ring import Ring\n"),
    ),
    "a circle for the type checker alone": (
        "no_file_reaches_itself",
        append(
            "learner/models/window.py",
            "\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from learner.models.world_model import WorldModel\n",
        ),
    ),
    "a circle inside a function": (
        "no_file_reaches_itself",
        append("embodichain/types/poses.py", "\ndef f() -> None:\n    from embodichain.types import scenes\n"),
    ),
    "an import by string upward": (
        "no_room_reaches_itself",
        append("learner/data/windows.py", "\nSESSION = 'learner.runs.session:stream_and_learn'\n"),
    ),
    "an import by string from the engine to the learner": (
        "the_engine_knows_no_learner",
        append("embodichain/stages.py", "\nMODULE = 'learner.training.module'\n"),
    ),
    "an import by a computed name": (
        "imports_by_name_are_counted",
        append("learner/data/windows.py", "\nimport importlib\n\nMODULE = importlib.import_module('learner' + '.runs')\n"),
    ),
    "an import in a text that is executed": (
        "imports_by_name_are_counted",
        append("learner/data/windows.py", "\nexec('import learner.runs.session')\n"),
    ),
    "a module that is run by a computed name": (
        "imports_by_name_are_counted",
        append("learner/data/windows.py", "\nimport runpy\n\nSPACE = runpy.run_module('learner' + '.runs')\n"),
    ),
    "a name in a string that leads nowhere": (
        "names_in_strings_lead_somewhere",
        append("embodichain/tasks/__init__.py", "\nOLD = 'embodichain.tasks.gone:Gone'\n"),
    ),
    "a room missing in the picture": (
        "the_picture_in_the_readme_is_the_graph",
        replace("README.md", "  rollout --> episode\n", ""),
    ),
    "an arrow that is not there": (
        "the_picture_in_the_readme_is_the_graph",
        replace("README.md", "  rollout --> episode\n", "  rollout --> episode\n  robots --> assets\n"),
    ),
    "a room missing in the tables": ("the_readme_names_every_room", replace("README.md", "`learner/codecs`", "codecs")),
    "types that use a room": (
        "what_everybody_uses_uses_nothing",
        append("embodichain/types/timings.py", "\nfrom embodichain.metrics import MetricsWriter\n"),
    ),
    "a file in the root of the learner": ("the_learner_has_rooms_on_few_floors", append("learner/extra.py", "")),
    "a file in the root of the assets": ("assets_have_rooms", append("embodichain/assets/extra.py", "")),
    "ray in a second file": ("heavy_packages_have_one_home_each", append("embodichain/engine.py", "\nimport ray\n")),
    "a third file that speaks MuJoCo": (
        "few_files_speak_mujoco",
        append("embodichain/scenes/settle.py", "\nimport mujoco\n"),
    ),
    "a name taken from where it only passes through": (
        "a_name_has_one_path",
        append("embodichain/stages.py", "\nfrom embodichain.rollout import Episode\n"),
    ),
    "a family named outside its folder": (
        "families_are_named_nowhere_else",
        append("learner/training/module.py", "\n# as Clwm does\n"),
    ),
    "training that imports a family": (
        "families_are_reached_by_recipes_alone",
        append("learner/training/module.py", "\nfrom learner.models.clwm import config\n"),
    ),
    "a family named in a string": (
        "families_are_reached_by_recipes_alone",
        append("learner/training/module.py", "\nFAMILY = 'learner.models.clwm.family:CLWM'\n"),
    ),
    "a family that imports another": (
        "families_are_reached_by_recipes_alone",
        append("learner/models/x_wam/other.py", "\nfrom learner.models.clwm import flops\n"),
    ),
    "a chain of imports that grows": (
        "imports_are_not_too_deep",
        append("learner/commands/deeper.py", "\nfrom learner.commands.segmenter import main\n"),
    ),
    "a file without a first line": (
        "files_say_what_they_are_for",
        lambda root: (root / "learner/data/new.py").write_text("X = 1\n"),
    ),
    "a room for leftovers": ("there_is_no_room_for_leftovers", append("learner/data/utils.py", "")),
    "a folder for leftovers": ("there_is_no_room_for_leftovers", append("learner/data/utils/words.py", "")),
    "a class by the name of another": (
        "a_class_name_has_one_meaning",
        append("learner/data/new.py", '\n\nclass Ring:\n    """Of fingers."""\n'),
    ),
    "a long file": ("files_stay_small", append("learner/data/long.py", "X = 1\n" * 500)),
}


@pytest.mark.slow
def test_the_copy_itself_breaks_no_law(clean):
    house = House(clean)
    assert {name: breaches for name, law in LAWS.items() if (breaches := law(house))} == {}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_breach_is_seen(planted, mutant):
    law, plant = MUTANTS[mutant]
    plant(planted)
    assert LAWS[law](House(planted)), f"{law} does not see {mutant}"


def test_every_law_has_a_mutant():
    assert {law for law, _ in MUTANTS.values()} == set(LAWS)
