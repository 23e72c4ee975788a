"""Other people's benchmarks as task sources: what they say is what is streamed and judged, whoever commands, in any process."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import psutil
import pytest
from ended import has_ended
from foreign_toy import LIMIT, ToyPhysics
from foreign_waiting import eventually, first_line

from embodichain import cli, tasks
from embodichain.config import WorldConfig
from embodichain.engine import Engine
from embodichain.episode import Episode, NoPictures
from embodichain.errors import ConfigError, RingTimeout, SceneError
from embodichain.expand.visual import VisualConfig
from embodichain.extras import MissingExtra
from embodichain.motion.action import ActionCodec
from embodichain.physics.foreign.wire import INTERPRETER, HostHung, HostLost
from embodichain.prepare import prepare
from embodichain.resimulation import fingerprints, resimulate
from embodichain.ring.ring import Ring
from embodichain.robots.benchmarks import metaworld, robosuite
from embodichain.rollout import ExpertPilot, drive
from embodichain.stages import Fate, SceneStage
from embodichain.types import RingSpec, Scene, Step, TrajectoryInfo

SIZE = {"width": 32, "height": 32, "painter": "raster", "horizon": 8}


def world(*names):
    return prepare(WorldConfig(tasks=names or ("toy:reach",), **SIZE))


class Follows:
    """Commands as the benchmark's expert does for some steps, then as somebody else."""

    def __init__(self, steps):
        self._left, self._rng = steps, np.random.default_rng(1)

    def look(self, frame):
        """Needs no pictures."""

    def command(self, state):
        self._left -= 1
        return Step(command=state.expert if self._left >= 0 else np.append(self._rng.uniform(-1, 1, 2), 0.0))


def play(made, physics, pilot, number=0):
    """The states that an episode goes through, each as the benchmark's own numbers."""
    task, scene = SceneStage(made, physics=physics).step(number)
    out = made.trajectory_spec.allocate()
    pilot = pilot or ExpertPilot(task, scene, physics, np.random.default_rng(0))
    episode = Episode(scene, pilot, task.grader(scene), ActionCodec(made.robot), NoPictures(), out, made.trajectory_spec)
    states = [(state.measured, state.observation["goal"], state.reward) for state in drive(physics, scene, episode)]
    return [np.hstack(state) for state in states], episode.finish(), out


# --------------------------------------------------------------------------------------------------------- determinism


def test_a_seed_is_a_trajectory_whatever_was_played_before(toy):
    made = world()
    first = [resimulate(made, number) for number in (0, 1)]
    again = resimulate(made, 1)
    assert fingerprints(again.trajectory) == fingerprints(first[1].trajectory)
    assert fingerprints(first[0].trajectory) != fingerprints(first[1].trajectory)
    physics = made.make_physics()
    states = [play(made, physics, None, number)[0] for number in (1, 0, 1)]
    physics.close()
    assert np.array_equal(states[0], states[2])


@pytest.mark.parametrize("follows", [3, 4, 10, 19, 20])
def test_whoever_stops_following_the_expert_finds_the_episode_where_it_was(toy, monkeypatch, follows):
    made, physics = world("toy:never"), world("toy:never").make_physics()
    play(made, physics, None, 1)  # whatever was played before
    ahead = play(made, physics, Follows(follows))[0]
    monkeypatch.setattr("embodichain.physics.foreign.physics._TRUSTED", 1 << 30)  # nothing is ever played ahead
    step_by_step = play(made, physics, Follows(follows))[0]
    physics.close()
    assert len(ahead) == len(step_by_step) and np.array_equal(ahead, step_by_step)


def test_an_expert_is_asked_once_in_each_state(toy, monkeypatch):
    made, physics = world("toy:moody"), world("toy:moody").make_physics()
    _, scene = SceneStage(made, physics=physics).step(0)
    seen = [physics.reset(scene)]
    for _ in range(40):
        seen.append(physics.step(seen[-1].expert.astype(np.float32)))
    assert [int(state.observation["asked"][0]) for state in seen] == list(range(1, len(seen) + 1))
    ahead = play(made, physics, None)[0]
    monkeypatch.setattr("embodichain.physics.foreign.physics._TRUSTED", 1 << 30)
    assert np.array_equal(play(made, physics, None)[0], ahead)
    physics.close()


@pytest.mark.parametrize("follows", [9, 99])
def test_a_step_that_fails_fails_for_whoever_comes_to_it(toy, follows):
    physics = world("toy:late").make_physics()
    state = physics.reset(Scene(seed=0, task="toy:late", instruction="", objects=()))
    for steps in range(9):
        state = physics.step(state.expert.astype(np.float32))  # as commands are rounded: it is followed
        assert state.time_s == (steps + 1) / 20 and int(state.observation["asked"][0]) == steps + 2
    if follows == 9:
        state = physics.step(np.zeros(3))
        assert int(state.observation["asked"][0]) == 11 and np.isfinite(state.reward)
    else:
        with pytest.raises(SceneError, match="this task is broken"):
            physics.step(state.expert.astype(np.float32))
    physics.close()


def test_pictures_show_the_step_that_was_reached_and_not_what_was_played_ahead(toy, monkeypatch):
    made = world()
    ahead = resimulate(made, 0)
    monkeypatch.setattr("embodichain.physics.foreign.physics._TRUSTED", 1 << 30)
    assert fingerprints(resimulate(made, 0).trajectory) == fingerprints(ahead.trajectory)
    frames = ahead.trajectory["rgb"][: ahead.outcome.num_chunks + 1]
    assert len({frame.tobytes() for frame in frames}) == len(frames)


def test_a_site_of_the_benchmark_is_seen_where_it_is(toy):
    made = world()
    green = []
    for number in range(3):
        shown = resimulate(made, number)
        picture = shown.trajectory["rgb"][0, 0].astype(int)
        rows, columns = np.nonzero((picture[..., 1] > 60) & (picture[..., 0] < 40))
        green.append((columns.mean() - 15.5, 15.5 - rows.mean()))
        physics = made.make_physics()
        goal = physics.reset(shown.scene).observation["goal"]
        physics.close()
        half = 1.9 * np.tan(np.radians(22.5))  # seen from 1.9 m above the goal's middle
        assert np.allclose(green[-1], 16 * goal / half, atol=1.2)
    assert len(set(green)) == 3


def test_the_colours_of_sites_are_those_of_their_episode(toy):
    def seen(physics, seed):
        physics.reset(Scene(seed=seed, task="toy:colours", instruction="", objects=()))
        rgb = np.zeros((1, 32, 32, 3), np.uint8)
        physics.render(rgb)
        return rgb

    made = world()
    physics = made.make_physics()
    pictures = [seen(physics, seed) for seed in (0, 1, 2, 0)]
    physics.close()
    for seed, picture in enumerate(pictures[:3]):
        fresh = made.make_physics()
        assert np.array_equal(seen(fresh, seed), picture)
        fresh.close()
    assert np.array_equal(pictures[3], pictures[0])
    saturated = [[int((np.ptp(p, axis=-1) > 60)[p.argmax(axis=-1) == c].sum()) for c in (1, 2)] for p in pictures]
    assert [[count > 4 for count in counts] for counts in saturated[:3]] == [[True, False], [False, True], [False, False]]


# ------------------------------------------------------------------------------------------------------------- verdicts


def test_success_is_what_the_benchmark_says_and_time_is_up_when_it_says(toy):
    made, physics = world("toy:reach", "toy:never"), world("toy:reach").make_physics()
    states, done, _ = play(made, physics, None, 0)
    never = play(made, physics, None, 1)[1]
    physics.close()
    assert done.verdict.success and done.verdict.progress == 1.0 and states[0][-1] < -0.05
    assert not never.verdict.success and "60 steps" in never.verdict.reason and 0.9 < never.verdict.progress < 1.0
    assert max(state[-1] for state in states) > -0.05  # the reward is minus the distance, and it is done within 5 cm


def test_success_after_the_benchmarks_time_does_not_count(toy):
    made, physics = world(), world().make_physics()
    task, scene = SceneStage(made, physics=physics).step(0)
    graders = [task.grader(scene) for _ in range(2)]
    start = state = physics.reset(scene)
    while not state.success:
        state = physics.step(state.expert)
    physics.close()
    for grader, waits in zip(graders, (LIMIT - 1, LIMIT), strict=True):
        for _ in range(waits):
            grader.observe(start)
        grader.observe(state)
    assert [grader.verdict().success for grader in graders] == [True, False]


def test_the_expert_rests_when_it_is_done(toy):
    made, physics = world(), world().make_physics()
    _, outcome, out = play(made, physics, None)
    physics.close()
    actions = ActionCodec(made.robot).decode(out["action"][: outcome.num_chunks]).reshape(-1, 3)
    assert np.abs(actions[0]).max() > 0 and not actions[-1].any()


# -------------------------------------------------------------------------------------------------------------- stream


def test_it_streams_under_the_bound_with_versions_as_provenance(toy):
    made = world()
    with Ring.create(RingSpec(trajectory=made.stream_spec, num_slots=4, max_reads=2)) as ring, Engine(made, ring) as engine:
        for _ in range(3):
            assert engine.step().fate is Fate.PUBLISHED
        read = []
        for _ in range(6):
            with ring.acquire(1, 5.0, rng=np.random.default_rng(0)) as lease:
                for trajectory in lease:
                    info = TrajectoryInfo.decode(np.asarray(trajectory["info"]))
                    read.append(info.scene_seed)
                    assert info.physics == info.robot == "toy" and info.versions.startswith("mujoco ") and info.success
                    assert np.flatnonzero(trajectory["action_mask"]).tolist() == [0, 1, 28]
        with pytest.raises(RingTimeout, match="0 reads left"):
            ring.acquire(1, 0.0, rng=np.random.default_rng(0))
    assert sorted(read.count(seed) for seed in set(read)) == [2, 2, 2]


def hosts(process=None):
    """Living hosts of the toy that a process has started, this one by default."""
    alive = [child for child in psutil.Process(process).children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in alive if any("foreign_toy_host" in word for word in child.cmdline())]


def test_a_host_that_dies_costs_the_episode_under_way_alone(toy):
    made, physics = world(), world().make_physics()
    whole = play(made, physics, None)[0]
    _, scene = SceneStage(made, physics=physics).step(0)
    physics.reset(scene)
    os.kill(hosts()[0], signal.SIGKILL)
    with pytest.raises(HostLost, match="toy has ended with -9, asked for a step"):
        for _ in range(9):
            physics.step(np.zeros(3))
    assert np.array_equal(play(made, physics, None)[0], whole)
    physics.close()
    assert not hosts()


def test_a_host_that_dies_between_two_episodes_costs_nothing(toy):
    made, physics = world(), world().make_physics()
    whole = play(made, physics, None)[0]
    os.kill(hosts()[0], signal.SIGKILL)
    assert np.array_equal(play(made, physics, None)[0], whole)
    physics.close()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("toy:fault", "this task is broken"),
        ("toy:dies", "the process of toy has ended with -9"),
        ("toy:hangs", "toy was killed: asked for .*, it did not answer within 3 s; its last words: about to hang"),
    ],
)
def test_whatever_goes_wrong_in_a_benchmark_costs_its_episode_alone(toy, monkeypatch, task, said):
    monkeypatch.setattr(ToyPhysics, "benchmark", replace(ToyPhysics.benchmark, answer_s=3.0))
    made = world(task, "toy:reach")
    with Ring.create(RingSpec(trajectory=made.stream_spec, num_slots=2, max_reads=1)) as ring, Engine(made, ring) as engine:
        first, second = engine.step(), engine.step()
    assert first.fate is Fate.REFUSED and re.search(said, first.reason) and "\n" not in first.reason
    assert (second.fate, second.task) == (Fate.PUBLISHED, "toy:reach")
    assert not hosts()


def test_a_hung_beginning_is_waited_for_once(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(ToyPhysics, "benchmark", replace(ToyPhysics.benchmark, answer_s=1.0))
    monkeypatch.setenv("FOREIGN_TOY_HANGS", str(tmp_path / "hangs"))
    physics = world().make_physics()
    physics.versions  # noqa: B018 it runs already, as after an episode
    with pytest.raises(HostHung, match="asked to begin an episode, it did not answer within 1 s"):
        physics.reset(Scene(seed=0, task="toy:hangs_at_once", instruction="", objects=()))
    assert (tmp_path / "hangs").read_text() == "once\n" and not hosts()


OWNER = """
import signal, sys, time
import numpy as np
from foreign_toy import ToyPhysics, robot
from embodichain.types import Scene

stopped = []
signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
physics = ToyPhysics(robot(), width=16, height=16)
physics.reset(Scene(seed=0, task=sys.argv[1], instruction="", objects=()))
print("plays", flush=True)
until = 0.0
while not until or time.monotonic() < until:
    physics.step(np.zeros(3))
    until = until or (time.monotonic() + 1.0 if stopped else 0.0)
print("went on", flush=True)
physics.close()
"""


def owner(task, **environment):
    """A process of its own that plays a task until it is interrupted, and then for a second."""
    paths = os.pathsep.join(sys.path)
    variables = {**os.environ, "PYTHONPATH": paths, **environment}
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, task], stdout=subprocess.PIPE, bufsize=0, env=variables, start_new_session=True
    )


def test_a_host_ends_with_its_worker_in_the_middle_of_a_step(toy, tmp_path):
    with owner("toy:hangs", FOREIGN_TOY_HANGS=str(tmp_path / "hangs")) as worker:
        try:
            first_line(worker, 120.0)
            eventually((tmp_path / "hangs").exists, 60.0)
            (host,) = (psutil.Process(pid) for pid in hosts(worker.pid))
        finally:
            worker.kill()
        try:
            assert has_ended(host, 10.0)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                host.kill()


def test_an_interrupt_of_the_terminal_does_not_reach_a_host(toy):
    with owner("toy:never") as worker:
        try:
            first_line(worker, 120.0)
            os.killpg(worker.pid, signal.SIGINT)
            assert first_line(worker, 60.0) == "went on\n"
        finally:
            worker.kill()


def test_a_question_that_was_interrupted_is_not_answered_by_the_next(toy, monkeypatch):
    made, physics = world(), world().make_physics()
    whole = play(made, physics, None)[0]
    _, scene = SceneStage(made, physics=physics).step(0)
    physics.reset(scene)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr("embodichain.physics.foreign.wire.receive", interrupt)
        physics.step(np.ones(3))
    assert np.array_equal(play(made, physics, None)[0], whole)
    physics.close()


# ------------------------------------------------------------------------------------------------------------- channels


@pytest.mark.parametrize("robot", [metaworld(), robosuite()])
def test_commands_lie_in_channels_of_their_own_to_the_bit(robot):
    codec = ActionCodec(robot)
    commands = codec.round(np.random.default_rng(0).uniform(-1, 1, (5, robot.command_size)))
    actions = codec.encode(commands)
    assert np.array_equal(codec.decode(actions), commands)
    assert set(np.flatnonzero(actions.any(axis=0))) == set(np.flatnonzero(codec.mask)) == set(robot.channels)
    assert np.array_equal(codec.limits.high > 0, codec.mask.astype(bool))
    assert not robot.still(np.ones(robot.command_size))[:-1].any()


# ---------------------------------------------------------------------------------------------------------------- names


def test_tasks_bring_their_robot_and_physics():
    config = WorldConfig(tasks=("metaworld:reach-v3", "metaworld:door-open-v3"))
    assert (config.robot, config.physics) == ("metaworld", "metaworld")
    assert len(tasks.benchmarks.names("metaworld")) == 50
    for names, follow in ((("robosuite:Lift",), ("robosuite", "robosuite")), (("turn_switch",), ("dual_piper", "mujoco"))):
        other = replace(config, tasks=names)
        assert (other.robot, other.physics) == follow


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"robot": "metaworld"}, "robot 'metaworld' acts in tasks of metaworld alone, got turn_switch.*leave robot out"),
        ({"physics": "robosuite"}, "physics 'robosuite' acts in tasks of robosuite alone"),
        ({"robot": "robosuite", "tasks": ("metaworld:reach-v3",)}, "bring their own robot, got robot='robosuite'"),
    ],
)
def test_a_benchmarks_robot_that_was_asked_for_is_never_replaced(settings, said):
    with pytest.raises(ConfigError, match=said):
        WorldConfig(**{"tasks": ("turn_switch",), **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": ("metaworld:reach-v3", "turn_switch")}, "run them apart"),
        ({"tasks": ("metaworld:reach-v3", "robosuite:Lift")}, "run them apart"),
        ({"physics": "counting"}, "bring their own physics, got physics='counting'"),
        ({"robot": "lab.yaml"}, "bring their own robot, got robot='lab.yaml'"),
        ({"visual": VisualConfig(enabled=True)}, "visual.enabled would change nothing there"),
        ({"segmentation": True}, "segmentation would change nothing there"),
    ],
)
def test_what_a_benchmark_cannot_give_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        WorldConfig(**{"tasks": ("metaworld:reach-v3",), **settings})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metaworld:reech-v3", "unknown metaworld task 'reech-v3'.*push-v3.*did you mean 'reach-v3'"),
        ("metaword:reach-v3", "unknown benchmark 'metaword'.*did you mean 'metaworld'"),
        ("robosuite:lift", "unknown robosuite task 'lift'; available: Lift, Stack"),
        ("robosuit:Lift", "did you mean 'robosuite'"),
    ],
)
def test_a_wrong_name_says_what_there_is(name, said, capsys):
    assert cli.main(["run", "metaworld_cpu", "--task", name, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1


def test_a_benchmark_that_is_not_installed_says_how_to_install_it(monkeypatch, tmp_path):
    config = WorldConfig(tasks=("metaworld:reach-v3",), **SIZE)
    monkeypatch.setenv(INTERPRETER, sys.executable)  # a Python without it
    with pytest.raises(MissingExtra, match=r"No module named 'metaworld'.*pip install metaworld==3.1.1"):
        prepare(config)
    monkeypatch.delenv(INTERPRETER)
    monkeypatch.setenv("EMBODICHAIN_CACHE", str(tmp_path))
    with pytest.raises(MissingExtra, match=f"there is no {tmp_path}/foreign/bin/python"):
        prepare(config)


def wrong_interpreter(kind, folder):
    """A path that names no Python with a benchmark, and what is said of it."""
    path = folder / "python"
    if kind == "folder":
        path.mkdir()
        return path, "is a folder and no Python: name the bin/python in it"
    if kind == "true":
        return "/bin/true", "/bin/true has ended with 0 and said nothing"
    text = {"no NumPy": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n'}.get(kind, "nothing")
    path.write_text(text)
    path.chmod(0o644 if kind == "no program" else 0o755)
    return path, {
        "no program": "cannot be started: Permission denied",
        "no format": "cannot be started: Exec format error",
        "no NumPy": "has ended with 1 and said nothing but: .*No module named 'numpy'",
    }[kind]


@pytest.mark.parametrize("kind", ["folder", "true", "no program", "no format", "no NumPy"])
def test_a_wrong_interpreter_is_explained_in_one_line(monkeypatch, tmp_path, kind):
    path, said = wrong_interpreter(kind, tmp_path)
    monkeypatch.setenv(INTERPRETER, str(path))
    with pytest.raises(MissingExtra, match=rf"{said}.*pip install metaworld==3.1.1, or name") as refused:
        prepare(WorldConfig(tasks=("metaworld:reach-v3",), **SIZE))
    assert "\n" not in str(refused.value)


def test_a_program_that_never_says_hello_is_killed(toy, monkeypatch):
    monkeypatch.setenv(INTERPRETER, "/usr/bin/yes")
    monkeypatch.setattr(ToyPhysics, "benchmark", replace(ToyPhysics.benchmark, start_s=0.3))
    with pytest.raises(HostHung, match=r"toy was killed: started as /usr/bin/yes, it did not answer within 0\.3 s"):
        ToyPhysics.warm_up()
    assert not hosts()


def test_the_command_to_type_can_be_typed_where_folders_have_blanks(monkeypatch, tmp_path):
    monkeypatch.delenv(INTERPRETER, raising=False)
    monkeypatch.setenv("EMBODICHAIN_CACHE", str(tmp_path / "a folder"))
    with pytest.raises(MissingExtra) as refused:
        prepare(WorldConfig(tasks=("metaworld:reach-v3",), **SIZE))
    words = shlex.split(str(refused.value).partition("): ")[2].partition(",")[0])
    folder = str(tmp_path / "a folder/foreign")
    assert words == ["python3", "-m", "venv", folder, "&&", f"{folder}/bin/pip", "install", "metaworld==3.1.1"]


def test_list_names_them(capsys):
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "metaworld:reach-v3" in found["tasks of metaworld"] and found["tasks of robosuite"] == [
        "robosuite:Lift",
        "robosuite:Stack",
    ]


def test_a_scene_of_ours_cannot_be_played_there(toy):
    physics = world().make_physics()
    scene = Scene(seed=0, task="counting", instruction="Count.", objects=())
    with pytest.raises(SceneError, match="cannot be played in toy"):
        physics.reset(scene)
