"""Tasks as gymnasium environments: the API's own checker is content, experts earn 1, seeds decide, and stock wrappers work."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from embodichain import environments, tasks
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.recovery.config import Kinds, RecoveryConfig
from embodichain.types import Mishap

SWITCH = "EmbodiChain/turn_switch-v0"


@pytest.fixture(scope="module")
def env():
    made = gymnasium.make(SWITCH, render_mode="rgb_array")
    yield made
    made.close()


@pytest.fixture(scope="module")
def blind():
    made = gymnasium.make(SWITCH, pixels=False)
    yield made
    made.close()


def test_every_task_is_registered_when_the_module_is_imported() -> None:
    ids = {name for name in gymnasium.registry if name.startswith("EmbodiChain/")}
    assert ids == {f"EmbodiChain/{name}-v0" for name in tasks.TASKS if name != "counting"}
    script = f"import gymnasium; env = gymnasium.make('embodichain.environments:{SWITCH}', pixels=False); print(env.spec.id)"
    told = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, timeout=300, check=True)
    assert told.stdout.split()[-1] == SWITCH


def test_the_checker_of_the_api_has_nothing_to_say(env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_an_expert_earns_one_and_ends_the_episode_and_doing_nothing_earns_nothing(blind) -> None:
    for seed in (3, 4):
        blind.reset(seed=seed)
        earned, over = 0.0, False
        for action in blind.unwrapped.expert():
            assert not over
            _, reward, over, cut, told = blind.step(action)
            earned += reward
            if over or cut:
                break
        while not (over or cut):
            _, reward, over, cut, told = blind.step(action)
            earned += reward
        assert over and told["success"] and earned == pytest.approx(1.0)
    observed, _ = blind.reset(seed=3)
    still = blind.unwrapped.action(observed["state"])
    for _ in range(20):
        _, reward, over, _, told = blind.step(still)
        assert reward == 0.0 and not over and told["reason"]


def test_a_seed_decides_the_scene_the_pictures_and_what_follows(env) -> None:
    def play(**how):
        first, told = env.reset(**how)
        env.action_space.seed(0)
        rows = [env.step(env.action_space.sample()) for _ in range(3)]
        return first, told, rows

    one, other, different = play(seed=5), play(seed=5), play(seed=6)
    assert (one[0]["pixels"]["head"] == other[0]["pixels"]["head"]).all() and one[1]["number"] == other[1]["number"]
    for a, b in zip(one[2], other[2], strict=True):
        assert (a[0]["state"] == b[0]["state"]).all() and (a[0]["pixels"]["head"] == b[0]["pixels"]["head"]).all()
    assert one[1]["number"] != different[1]["number"]
    again = play(options={"number": one[1]["number"]})
    assert (again[0]["pixels"]["head"] == one[0]["pixels"]["head"]).all()
    assert (env.render() == env.unwrapped.render()).all() and env.render().shape == (64, 64, 3)


def test_an_action_stands_for_a_command_between_the_limits(blind) -> None:
    bare = blind.unwrapped
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (50, *bare.action_space.shape)).astype(np.float32)
    for action in actions:
        np.testing.assert_allclose(bare.action(bare.command(action)), action, atol=1e-6)
    assert (bare.command(np.full(bare.action_space.shape, 5.0)) == bare.command(np.ones(bare.action_space.shape))).all()
    blind.reset(seed=1)
    target = bare.command(np.zeros(bare.action_space.shape, np.float32))
    for _ in range(150):
        observed, *_ = blind.step(np.zeros(bare.action_space.shape, np.float32))
    assert np.abs(observed["state"] - target).max() < 0.25, "the arms went to the middle of their ranges, or leaned on the table"


def test_what_is_held_moves_on_by_as_many_control_steps() -> None:
    held, each = (gymnasium.make(SWITCH, pixels=False, hold=hold).unwrapped for hold in (4, 1))
    held.reset(seed=2)
    each.reset(seed=2)
    action = np.full(held.action_space.shape, 0.1, np.float32)
    observed = held.step(action)[0]["state"]
    states = [each.step(action)[0]["state"] for _ in range(4)]
    assert (observed == states[-1]).all() and not (observed == states[0]).all()
    with pytest.raises(ConfigError, match="hold=1"):
        next(held.expert())


def test_vectors_of_them_are_stock() -> None:
    many = gymnasium.make_vec(SWITCH, num_envs=2, vectorization_mode="sync", pixels=False)
    observed, told = many.reset(seed=[7, 8])
    alone = gymnasium.make(SWITCH, pixels=False)
    for index, seed in enumerate((7, 8)):
        assert (alone.reset(seed=seed)[0]["state"] == observed["state"][index]).all()
    assert len(set(told["number"])) == 2
    many.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"task": "turn_sweets"}, "did you mean|available"),
        ({"hold": 0}, "at least 1, got 0"),
        ({"render_mode": "human"}, "available: rgb_array"),
        ({"painter": "oil"}, "oil"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(wrong, told) -> None:
    with pytest.raises(ConfigError, match=told):
        environments.TaskEnv(**wrong)


def test_what_is_no_action_is_refused_and_a_reset_comes_first(blind) -> None:
    fresh = environments.TaskEnv(pixels=False)
    with pytest.raises(SceneError, match="reset"):
        fresh.step(np.zeros(14, np.float32))
    blind.reset(seed=0)
    for wrong in (np.full(14, np.nan), np.zeros(3)):
        with pytest.raises(ConfigError, match="14 finite numbers"):
            blind.unwrapped.step(wrong)
    with pytest.raises(ConfigError, match="available: number"):
        blind.reset(options={"scene": 3})


@pytest.mark.parametrize(("hold", "steps"), [(1, 10), (4, 3)])
def test_an_episode_lasts_as_long_in_seconds_however_long_actions_are_held(hold, steps) -> None:
    made = gymnasium.make(SWITCH, pixels=False, hold=hold, limit_s=0.2)
    made.reset(seed=3)
    still = made.unwrapped.action(made.unwrapped._world.robot.home)
    cut = [made.step(still)[3] for _ in range(steps)]
    made.close()
    assert cut == [False] * (steps - 1) + [True]


@pytest.mark.parametrize("number", [-1, 2.5, "7"])
def test_what_is_no_number_of_a_scene_is_refused(blind, number) -> None:
    with pytest.raises(ConfigError, match="number is the number of a scene, 0 or more"):
        blind.unwrapped.reset(options={"number": number})


def test_after_a_reset_that_failed_there_is_no_scene(blind, monkeypatch) -> None:
    blind.unwrapped.reset(seed=3)

    def refuse(number: int):
        raise SceneError(f"no layout for {number}")

    monkeypatch.setattr(blind.unwrapped._stage, "step", refuse)
    with pytest.raises(SceneError, match="no layout for 5"):
        blind.unwrapped.reset(options={"number": 5})
    with pytest.raises(SceneError, match="call reset"):
        blind.unwrapped.step(np.zeros(blind.action_space.shape, np.float32))


@pytest.mark.parametrize("mishap", [Mishap.SLIP, Mishap.OUT_OF_BOUNDS])
def test_a_failure_that_the_expert_provokes_happens_and_is_forgiven_as_in_a_run(mishap) -> None:
    """Whole episodes, because forgiveness is seen only in their verdict."""
    recovery = RecoveryConfig(probability=1.0, kinds=Kinds.only(mishap))
    played = environments.TaskEnv(world=WorldConfig(tasks=("rank_blocks_by_size",), recovery=recovery), pixels=False, limit_s=60.0)
    _, told = played.reset(options={"number": 2})
    start = before = told["poses"]
    slid = 0.0
    for action in played.expert():
        _, _, over, cut, told = played.step(action)
        for role, pose in told["poses"].items():
            if abs(pose[2] - start[role][2]) < 1e-3:  # it lies on the table
                slid = max(slid, float(np.linalg.norm(pose[:2] - before[role][:2])))
        before = told["poses"]
        assert not cut
        if over:
            break
    played.close()
    assert told["success"], told["reason"]
    assert (slid > 2e-3) == (mishap is Mishap.OUT_OF_BOUNDS)  # more than 0.1 m/s along the table: an external force
