"""What others hold in their hands: one path a name, types, extras that suffice, and distributions that hold everything."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import embodichain
import learner
from embodichain.extras import EXTRAS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"PIL": "pillow", "collada": "pycollada", "pxr": "usd-core", "warp": "warp-lang"}
"""Modules whose distribution has another name."""


def python(code: str, *, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter, with `path` before everything else."""
    folders = [*([str(path)] if path else []), str(ROOT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=cwd)


# --------------------------------------------------------------------------------------------------------------- names


def test_the_rooms_that_are_named_are_those_that_exist():
    for package, inner in ((embodichain, {"cli", "commands"}), (learner, set())):
        folder = Path(str(package.__file__)).parent
        there = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
        assert set(package.__all__) == there - inner - {"__init__"}
        assert set(package.__all__) <= set(dir(package))


ROOMS = [f"{package.__name__}.{room}" for package in (embodichain, learner) for room in package.__all__ if room != "commands"]


def public(room: str) -> dict[str, object]:
    """What a room's `__all__` lists; every name must be there."""
    module = importlib.import_module(room)
    found = {}
    for name in module.__all__:
        if not hasattr(module, name):
            importlib.import_module(f"{module.__name__}.{name}")  # a room of rooms lists those
        found[name] = getattr(module, name)
    return found


def test_a_public_name_has_one_path():
    paths: dict[int, list[str]] = {}
    for room in ROOMS:
        for name, thing in public(room).items():
            if isinstance(thing, type) or callable(thing):
                paths.setdefault(id(thing), []).append(f"{room}.{name}")
    assert not [names for names in paths.values() if len(names) > 1]


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_defines_for_others_is_in_its_list(room):
    module = importlib.import_module(room)
    assert module.__all__, room
    if Path(str(module.__file__)).name == "__init__.py":
        return  # a room of several files chooses
    defined = {
        node.name
        for node in ast.parse(Path(str(module.__file__)).read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    assert defined <= set(module.__all__)


def test_importing_the_package_imports_nothing_else():
    code = (
        "import json, sys; before = set(sys.modules); import embodichain, learner; print(json.dumps([*set(sys.modules) - before]))"
    )
    assert set(json.loads(python(code).stdout)) <= {"__future__", "embodichain", "embodichain.lazy", "learner"}


def test_rooms_are_there_without_being_imported_one_by_one():
    result = python("import embodichain; print(embodichain.tasks.make('turn_switch').name, embodichain.types.CHUNK)")
    assert result.stdout == "turn_switch 16\n", result.stderr
    assert "it has assets" in python("import embodichain; embodichain.taks").stderr


# -------------------------------------------------------------------------------------------------------------- extras


def requirements(extra: str) -> set[str]:
    """Distributions that an extra itself names."""
    return {re.split(r"[<>=~\[]", text)[0] for text in PROJECT["optional-dependencies"][extra]} - {"embodichain"}


def test_the_table_of_extras_is_the_one_of_the_project():
    for extra, modules in EXTRAS.items():
        assert {MODULES.get(module, module.replace("_", "-")) for module in modules} == requirements(extra)
    chain = list(EXTRAS)
    for smaller, larger in zip(chain, [*chain[1:], "all"], strict=True):
        assert f"embodichain[{smaller}]" in PROJECT["optional-dependencies"][larger]


def hidden(folder: Path, extras: list[str]) -> Path:
    """A folder in which everything that these extras bring is missing, as if it were not installed."""
    gone = [module for extra in extras for module in EXTRAS[extra]]
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {gone!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    return folder


def command(*arguments: str) -> str:
    """Code that runs a command line."""
    return f"import sys; from embodichain.cli import main; sys.exit(main({list(arguments)!r}))"


def test_without_any_extra_there_is_help_and_there_are_names(tmp_path):
    path = hidden(tmp_path, list(EXTRAS))
    assert python(command("--help"), path=path).returncode == 0
    assert "turn_switch" in json.loads(python(command("list", "--json"), path=path).stdout)["tasks"]


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        (["assets", "sim", "learn", "serve"], ["asset", "build", "block", "-o", "out"], "assets"),
        (["sim", "learn", "serve"], ["tasks", "show", "turn_switch", "-o", "out"], "sim"),
        (["exchange", "learn", "serve"], ["export", "robomimic", "--task", "turn_switch", "-o", "out"], "exchange"),
        (["learn", "serve"], ["run", "tiny_cpu", "--out", "out"], "learn"),
        (["serve"], ["serve", "builtin:turn_switch"], "serve"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(tmp_path, missing, arguments, extra):
    (tmp_path / "ledger.bin").write_bytes(b"")
    result = python(command(*arguments), path=hidden(tmp_path, missing), cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"pip install 'embodichain[{extra}]'" in line


def test_in_a_script_a_missing_extra_is_named_too(tmp_path):
    result = python("import embodichain; embodichain.stages", path=hidden(tmp_path, list(EXTRAS)))
    assert "pip install 'embodichain[assets]'" in result.stderr.splitlines()[-1]


def test_a_data_team_builds_and_checks_assets_without_simulator_learner_or_server(tmp_path):
    path = hidden(tmp_path, ["sim", "learn", "serve"])
    out = tmp_path / "assets"
    result = python(command("asset", "build", "block", "-o", str(out), "--json"), path=path)
    assert result.returncode == 0, result.stderr
    assert (out / "block" / "block_000" / "block_000.usd").exists()
    result = python(command("asset", "validate", str(out), "--own"), path=path)
    assert "1 of 1 assets pass" in result.stdout, result.stderr


# ------------------------------------------------------------------------------------------------------- distributions


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], tarfile.TarFile, zipfile.ZipFile]:
    """The files of the repository, and the source distribution and the wheel made of a copy of them."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git repository, so which files belong to it is not known")
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    place = tmp_path_factory.mktemp("built")
    for name in files:
        (place / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "tree" / name).write_bytes((ROOT / name).read_bytes())
    code = f"from setuptools.build_meta import build_sdist, build_wheel; build_sdist({str(place)!r}); build_wheel({str(place)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=place / "tree", check=True, capture_output=True)
    return files, tarfile.open(next(place.glob("*.tar.gz"))), zipfile.ZipFile(next(place.glob("*.whl")))


def test_the_source_distribution_holds_every_file_of_the_repository(built):
    files, source, _ = built
    held = {name.partition("/")[2] for name in source.getnames()}
    assert not set(files) - held
    assert not [name for name in held if name.endswith(".pyc")]


def test_the_wheel_holds_both_packages_whole_and_nothing_else(built):
    files, _, wheel = built
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {name for name in files if name.startswith(("embodichain/", "learner/"))}
    assert {"embodichain/py.typed", "learner/py.typed"} <= held


def test_the_wheel_says_who_made_it_for_whom_and_names_no_address_that_does_not_exist(built):
    _, _, wheel = built
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = wheel.read(name).decode().partition("\n\n")[0]
    assert "Author: EmbodiChain developers" in metadata and "Typing :: Typed" in metadata
    assert not re.search(r"^(Home-page|Project-URL):", metadata, re.MULTILINE)
