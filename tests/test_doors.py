"""Somebody else's task, robot, physics, asset family and command work without an edit here; a bad one costs only its own name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from embodichain import cli, robots, tasks
from embodichain.assets.families import FAMILIES
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError
from embodichain.physics import PHYSICS
from embodichain.registry import Registry, is_reference
from embodichain.world import check_names

ROOT = Path(__file__).parent.parent
SOURCE = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample distribution, built and installed by pip into a folder of its own."""
    place = tmp_path_factory.mktemp("plugin")
    copy = place / "source"
    for file in SOURCE.rglob("*"):
        if file.suffix in (".py", ".toml"):
            (copy / file.relative_to(SOURCE)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(SOURCE)).write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(place / "site"), str(copy)], check=True, capture_output=True)
    return place / "site"


def embodichain(*arguments: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the public command line with `path` on the search path; the working folder is not, as for the installed command."""
    folders = [str(ROOT), *([str(path)] if path else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-P", "-m", "embodichain.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


def json_of(*arguments: str, path: Path | None = None, cwd: Path | None = None) -> dict:
    """The JSON object that a command which must succeed prints."""
    result = embodichain(*arguments, "--json", path=path, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# ----------------------------------------------------------------------------------------------------------- installed


def test_list_names_what_an_installed_distribution_adds_and_imports_none_of_it(installed):
    names = json_of("list", path=installed)
    assert {"touch_peg", "broken_task", "turn_switch"} <= set(names["tasks"])
    assert names["robots"] == ["dual_piper", "metaworld", "robosuite", "near_piper"]
    assert "still" in names["physics"] and "peg" in names["asset categories"]
    assert names["model families"] == ["clwm", "lingbot_va", "x_wam", "cowvla", "toy"] and "toy_cpu" in names["recipes"]
    code = (
        "import sys; from embodichain.cli import main; main(['list']); main(['--help']); print('workshop' in str([*sys.modules]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(installed)])}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    assert printed.splitlines()[-1] == "False"
    assert any(line.split()[:1] == ["greet"] and "embodichain-workshop 0.2.0" in line for line in printed.splitlines())


def test_an_installed_recipe_brings_an_installed_family_of_models(installed, tmp_path):
    """That it trains, is judged and is served is told by tests/learner/test_families.py."""
    result = embodichain("run", "toy_cpu", "--size", "broad", "--dry-run", path=installed, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "    model:\n      chunk: 16\n      action_dim: 30\n      width: 32\n" in result.stdout


def test_an_installed_command_runs(installed):
    assert embodichain("greet", "robot", path=installed).stdout == "hello robot\n"


def test_the_expert_of_an_installed_task_succeeds_with_an_installed_asset_family(installed, tmp_path):
    report = json_of("tasks", "show", "touch_peg", "-n", "1", "--size", "32", "-o", str(tmp_path), path=installed)
    assert [episode["success"] for episode in report["episodes"]] == [True]


@pytest.mark.slow
def test_assets_of_an_installed_family_are_built_by_workers_kept_and_built_again_when_its_code_changes(installed, tmp_path):
    def states() -> dict[str, str]:
        sources = ("peg:1", "workshop.peg:peg:1")
        command = ("asset", "build", *sources, "-o", str(tmp_path), "--clean", "--jobs", "2", "--no-gallery", "--resume")
        return {asset["name"]: asset["state"] for asset in json_of(*command, path=installed)["assets"]}

    assert states() == {"peg_000": "built", "workshop_peg_peg_000": "built"}
    assert states() == {"peg_000": "kept", "workshop_peg_peg_000": "kept"}
    module = installed / "workshop" / "near_piper.py"
    module.write_text(module.read_text() + "# another version\n")
    assert states() == {"peg_000": "built", "workshop_peg_peg_000": "built"}


def test_an_installed_robot_stands_in_an_installed_physics(installed):
    code = (
        "from embodichain import physics, robots\n"
        "robot = robots.get('near_piper')\n"
        "world = physics.make('still', robot=robot, width=16, height=16)\n"
        "print(robot.name, type(world).__name__, world.robot is robot)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(installed)])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout == "near_piper StillPhysics True\n", result.stderr


def test_a_task_that_cannot_be_imported_is_one_line_that_names_its_distribution(installed, tmp_path):
    result = embodichain("scene", "sample", "--task", "broken_task", "-o", str(tmp_path), path=installed)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "embodichain-workshop 0.2.0" in line and "a_module_that_nobody_has" in line and "workshop.broken:Broken" in line


@pytest.mark.slow
def test_ray_workers_find_what_is_installed(installed, tmp_path):
    command = ("run", "seconds_cpu", "--tasks", "touch_peg", "--robot", "near_piper", "--physics", "still", "--steps", "2")
    more = ("--out", str(tmp_path / "run"), "--episodes", "0", "--learner.data.timeout-s", "500")
    summary = json_of(*command, *more, path=installed)
    assert summary["published_by_task"].keys() == {"touch_peg"}


# ------------------------------------------------------------------------------------------------- package.module:Name


def test_a_task_in_the_working_folder_is_taken_by_its_path(tmp_path):
    command = ("scene", "sample", "--task", "workshop.touch_peg:JustAPeg", "-n", "1", "--size", "0", "-o", str(tmp_path))
    report = json_of(*command, cwd=SOURCE)
    assert [scene["instruction"] for scene in report["scenes"]] == ["Touch the peg."]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:Task", "No module named 'no_such_module'"),
        ("json:Task", "no attribute 'Task'"),
        ("json:loads", "is no task"),
        ("__main__:Task", "move it into a module"),
        ("json:", "unknown task"),
    ],
)
def test_a_path_behind_which_there_is_no_task_is_refused(name, reason):
    with pytest.raises(ConfigError) as caught:
        tasks.make(name)
    assert repr(name) in str(caught.value) and reason in str(caught.value)


def test_a_path_behind_which_there_is_no_physics_is_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="'json:Physics'"):
        check_names(WorldConfig(physics="json:Physics"))


def test_a_reference_is_a_module_and_a_name():
    assert all(map(is_reference, ("a:B", "a.b:C", "a.b_1:C.d")))
    assert not any(map(is_reference, ("a", "a.b", "a:", ":B", "a/b:C", "http://x", "mug:3", "C:\\x", "a b:C", "robot.xml")))


# ----------------------------------------------------------------------------------------------------------- bad names


def distribution(folder: Path, name: str, entries: str) -> Path:
    """The metadata of an installed distribution `name` 1.0 with these entry points."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nSummary: about {name}\n")
    (metadata / "entry_points.txt").write_text(entries)
    return folder


def test_a_built_in_name_that_a_distribution_takes_too_is_refused_by_name_and_no_other_is(tmp_path):
    entries = "[embodichain.tasks]\nturn_switch = thief:Task\n[embodichain.commands]\nlist = thief:main\n"
    folder = distribution(tmp_path, "thief", entries)
    result = embodichain("scene", "sample", "--task", "turn_switch", "--dry-run", "-o", "x", path=folder)
    assert result.returncode == 2
    assert "'turn_switch'" in result.stderr and "thief 1.0" in result.stderr and "thief:Task" in result.stderr
    assert embodichain("scene", "sample", "--task", "stack_bowls", "--dry-run", "-o", "x", path=folder).returncode == 0
    assert embodichain("--help", path=folder).returncode == 0
    assert "thief 1.0" in embodichain("list", path=folder).stderr


def test_a_name_that_two_distributions_add_is_refused_with_both(tmp_path, monkeypatch):
    for name in ("one", "two"):
        monkeypatch.syspath_prepend(distribution(tmp_path / name, name, f"[embodichain.families]\nvase = {name}:vase\n"))
    assert "vase" in FAMILIES
    with pytest.raises(ConfigError, match=r"'vase'.*one 1\.0.*two 1\.0.*uninstall"):
        FAMILIES.get("vase")
    assert callable(FAMILIES.get("mug"))


def test_an_entry_point_without_an_object_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(distribution(tmp_path, "hollow", "[embodichain.tasks]\nhollow = json\n"))
    with pytest.raises(ConfigError, match=r"task 'hollow' of hollow 1\.0"):
        tasks.make("hollow")


def test_a_misspelt_name_is_answered_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match=r"unknown task 'turn_swich'.*did you mean 'turn_switch'\?"):
        tasks.TASKS.check("turn_swich")


@pytest.mark.parametrize("registry", [tasks.TASKS, robots.ROBOTS, PHYSICS, FAMILIES], ids=lambda registry: registry.kind)
def test_everything_built_in_is_there(registry: Registry):
    assert list(registry)[: len(registry.built_in)] == list(registry.built_in)
    assert all(callable(registry.get(name)) and registry.origin(name) == "" for name in registry.built_in)


def test_commands_are_a_table_of_paths_like_the_others():
    assert all(is_reference(command.target) for command in cli.COMMANDS.values())


def test_a_misspelt_name_behind_a_path_is_answered_with_what_the_module_has() -> None:
    with pytest.raises(ConfigError, match=r"no attribute 'TurnSweets', did you mean 'TurnSwitch'"):
        tasks.TASKS.get("embodichain.tasks.turn_switch:TurnSweets")
    with pytest.raises(ConfigError, match=r"several names.*'turn_switch',"):
        WorldConfig(tasks="turn_switch")
