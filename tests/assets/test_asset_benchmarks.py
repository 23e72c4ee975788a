"""The options of the asset benchmarks do what they say: what is kept is not made again, folders are chosen, time is limited."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_cases import joint, link

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ONE_CASE = """
import sys
from pathlib import Path
sys.path.insert(0, {benchmarks!r})
import assets, harness
cases = [("repair", "block", seed, 0) for seed in range(int(sys.argv[2]))]
folder = Path(sys.argv[1])
rows = assets.run(cases, harness.Kept(folder / "rows.jsonl"), folder, 60.0, 1)
print([row["iou"] > 0.9 for row in rows["repair"]])
"""


def figures(script, *options):
    """What a benchmark says, as it is called on the command line."""
    command = [sys.executable, str(BENCHMARKS / script), "--quick", "--json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def packages(tmp_path):
    """A cache in which all packages are there already, two of them with a description each."""
    places = {"pybullet": "pybullet_data/random_urdfs/000", "dm_control": "dm_control/suite", "robosuite": "", "metaworld": ""}
    for name, inner in places.items():
        (tmp_path / "cache" / name / inner).mkdir(parents=True)
    inertial = '<inertial><mass value="0.3"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>'
    shown = link("base", (0.06, 0.05, 0.04), (0, 0, 0.02), inertial) + link("lid", (0.05, 0.04, 0.01), (0, 0, 0.01))
    limit = '<limit lower="0" upper="0.03" effort="1" velocity="1"/>'
    text = f'<robot name="r">{shown}{joint("slide", "prismatic", "base", "lid", "0 0 0.05", inner=limit)}</robot>'
    (tmp_path / "cache/pybullet/pybullet_data/random_urdfs/000/000.urdf").write_text(text)
    hinge = '<body name="b"><joint name="h" range="-1 1" limited="true"/><geom size=".05"/></body>'
    swing = f"<mujoco><worldbody>{hinge}</worldbody></mujoco>"
    (tmp_path / "cache/dm_control/dm_control/suite/swing.xml").write_text(swing)
    return tmp_path / "cache"


@pytest.mark.slow
def test_the_referee_takes_the_folders_it_is_told_and_judges_nothing_twice(packages, tmp_path):
    kept = tmp_path / "rows.jsonl"
    told = figures("assets_referee.py", packages, "--folders", "random_urdfs", "--keep", kept)
    assert (told["things"], told["refused"], told["different"], told["lost"]) == (1, 0, 0, 0)
    assert told["compared"] >= 4
    (line,) = kept.read_text().splitlines()
    # What is kept is believed: a row that nobody could have measured comes back, and the other folder is added.
    forged = json.loads(line)
    forged["row"]["compared"] = 1000
    kept.write_text(json.dumps(forged) + "\n")
    both = figures("assets_referee.py", packages, "--folders", "random_urdfs", "suite", "--keep", kept)
    assert (both["things"], len(kept.read_text().splitlines())) == (2, 2)
    assert both["compared"] > 1000


@pytest.mark.slow
def test_files_from_elsewhere_are_built_once_and_counted_each_time(tmp_path):
    options = ("--cases", "mjcf inertial", "--jobs", 1, "--keep", tmp_path)
    first = figures("assets_foreign.py", *options)
    assert (first["objects"], first["delivered_objects"], first["silent_drops"], first["refused"]) == (1, 1.0, 0, {})
    (built,) = (tmp_path / "out").rglob("explicit.usd")
    made = built.stat().st_mtime_ns
    again = figures("assets_foreign.py", *options)
    assert built.stat().st_mtime_ns == made
    assert (again["objects"], again["delivered_objects"]) == (1, 1.0), "what was kept is delivered too"


@pytest.mark.slow
def test_the_time_of_an_asset_is_limited(tmp_path):
    told = figures("assets_foreign.py", "--cases", "mjcf inertial", "--jobs", 1, "--seconds", 0.01, "--keep", tmp_path)
    assert told["delivered_objects"] == 0.0
    (reason,) = told["refused"].values()
    assert "not finished after 0 s, without what it waited for a core" in reason
    assert not list((tmp_path / "out").rglob("*.usd"))


@pytest.mark.slow
def test_an_interrupted_run_of_our_own_families_goes_on(tmp_path):
    def run(cases):
        command = [sys.executable, "-c", ONE_CASE.format(benchmarks=str(BENCHMARKS)), str(tmp_path), str(cases)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1].lower())

    file = tmp_path / "rows.jsonl"
    assert run(1) == [True]
    lines = file.read_text().splitlines()
    file.write_text(lines[0] + "\n" + lines[0][:20])  # it was killed while it wrote the second row
    assert run(2) == [True, True]
    assert [line[:20] for line in file.read_text().splitlines()] == [lines[0][:20]] * 3
    assert json.loads(file.read_text().splitlines()[2])["row"]["iou"] > 0.9
    before = file.read_text()
    assert run(2) == [True, True]
    assert file.read_text() == before
