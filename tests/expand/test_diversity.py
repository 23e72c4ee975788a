"""Laws of diversity: it covers more of what can be reached than as many uniform draws, and numbers alone decide what is chosen."""

import sys
from pathlib import Path

import numpy as np
import pytest

from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.diversity import FEATURES, DiversityConfig, Interaction, distances, features, gain, spread
from embodichain.prepare import prepare
from embodichain.stages import SceneStage
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import Pose
from embodichain.types.poses import compose, turn

sys.path.insert(0, str(Path(__file__).parent.parent / "scenes"))
import scene_parts as parts

BASES = (("left", (-0.2, 0.3, 0.2)), ("right", (-0.2, -0.3, 0.2)))


def interaction(x=0.0, y=0.1, yaw=0.0, arms=("left", "right"), result=(0.0, 0.0, 0.0), lean=0.0, size=0.05):
    down = compose(Pose(quaternion=turn((1.0, 0.0, 0.0), np.pi)), Pose(quaternion=turn((0.0, 1.0, 0.0), lean)))
    pose = compose(Pose(position=(x, y, 0.05), quaternion=turn((0.0, 0.0, 1.0), yaw)), down)
    return Interaction(contact=pose, arms=frozenset(arms), bases=BASES, result=result, size=size)


def test_features_tell_apart_what_matters_to_the_task_and_nothing_else():
    base = features(interaction())
    assert base.shape == (len(FEATURES),) and (base >= 0).all() and (base <= 1).all()
    for name, changed in {
        "contact_x": interaction(x=0.1),
        "contact_y": interaction(y=0.2),
        "closing": interaction(yaw=0.5),
        "result_x": interaction(result=(0.1, 0.0, 0.0)),
        "result_y": interaction(result=(0.0, -0.1, 0.0)),
        "arm": interaction(arms=("right",)),
        "approach": interaction(arms=("right",)),
        "tilt": interaction(lean=0.5),
        "grasp": interaction(size=0.09),
    }.items():
        assert abs(features(changed) - base)[FEATURES.index(name)] > 0.05, name
    half_turned = features(interaction(yaw=np.pi))
    assert distances(half_turned[None], base)[0] == pytest.approx(0.0, abs=1e-9)  # a parallel gripper cannot tell
    barely = distances(features(interaction(yaw=-0.01))[None], features(interaction(yaw=0.01)))[0]
    assert barely < 0.02  # angles have no border


def test_spread_keeps_different_ones_and_leaves_out_doubles():
    rng = np.random.default_rng(0)
    distinct = rng.random((6, len(FEATURES)))
    crowd = np.repeat(distinct, 20, axis=0) + 1e-4 * rng.standard_normal((120, len(FEATURES)))
    chosen = spread(crowd, 6)
    assert {index // 20 for index in chosen} == set(range(6))
    assert len(set(spread(crowd, 40))) == 40 and spread(crowd, 40)[:6] == chosen


def test_what_an_archive_holds_is_not_chosen_again():
    rng = np.random.default_rng(1)
    distinct = rng.random((8, len(FEATURES)))
    candidates = np.repeat(distinct, 5, axis=0) + 1e-4 * rng.standard_normal((40, len(FEATURES)))
    known = [0, 3, 5]
    chosen = spread(candidates, 5, distinct[known])
    assert {index // 5 for index in chosen} == set(range(8)) - set(known)
    assert spread(candidates, 5, np.empty((0, len(FEATURES)))) == spread(candidates, 5)


class Numbers:
    """What the scenes of a run ask of a hand, without waiting until each is at rest."""

    def __init__(self, sampler, diversity: DiversityConfig) -> None:
        self.sampler, self.diversity, self.task = sampler, diversity, TurnSwitch()

    def uniform(self, run: int, count: int) -> np.ndarray:
        return np.array([self.sampler.features(self.task, 100_000 * run + number) for number in range(count)])

    def diverse(self, run: int, blocks: int) -> np.ndarray:
        found, size = np.empty((0, len(FEATURES))), self.diversity.block * self.diversity.candidates
        for block in range(blocks):
            seeds = range(100_000 * run + 50_000 + block * size, 100_000 * run + 50_000 + (block + 1) * size)
            found = np.concatenate([found, self.sampler.choose(self.task, seeds, found).features])
        return found


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    diversity = DiversityConfig(enabled=True, block=24, candidates=8)
    return Numbers(parts.make_sampler(tmp_path_factory.mktemp("reach"), diversity=diversity), diversity)


def beats(sample: np.ndarray, uniform: np.ndarray, reachable: np.ndarray) -> bool:
    """Whether it covers a tenth more, and lies a twentieth nearer to all that can be reached."""
    covered, nearer = gain(sample, uniform, reachable)
    return covered > 1.10 and nearer > 1.05


def test_it_beats_uniform_sampling_at_equal_count_and_uniform_sampling_does_not(numbers):
    reachable = numbers.uniform(99, 200)
    for run in (1, 2):
        uniform = numbers.uniform(run, 48)
        assert beats(numbers.diverse(run, 2), uniform, reachable)
        assert not beats(numbers.uniform(run + 10, 48), uniform, reachable)


def test_a_choice_is_of_its_seeds_and_repeats(numbers):
    seeds = range(500, 500 + 48)
    numbers.sampler._diversity = DiversityConfig(enabled=True, block=8, candidates=6)
    chosen = numbers.sampler.choose(numbers.task, seeds)
    numbers.sampler._diversity = numbers.diversity
    assert set(chosen.seeds) <= set(seeds) and len(set(chosen.seeds)) == 8
    for seed, found in zip(chosen.seeds, chosen.features, strict=True):
        settled = numbers.sampler.interaction(numbers.task, numbers.sampler.sample(numbers.task, seed))
        np.testing.assert_array_equal(features(settled), found)


def test_what_a_scene_demands_follows_from_its_own_request(numbers):
    class Recording(TurnSwitch):
        drawn: list

        def request(self, rng):
            self.drawn.append(rng.bit_generator.state)
            return super().request(rng)

    task = Recording()
    task.drawn = []
    scene = numbers.sampler.sample(task, 7)
    numbers.sampler.interaction(task, scene)
    assert len(task.drawn) == 2 and task.drawn[0] == task.drawn[1]


def test_a_task_that_is_listed_twice_shows_no_scene_twice(tmp_path_factory):
    diversity = DiversityConfig(enabled=True, block=3, candidates=2)
    config = WorldConfig(tasks=("turn_switch", "turn_switch"), diversity=diversity)
    scenes = SceneStage(prepare(config, lambda name, done, total: None))
    seeds = [scenes.step(number)[1].seed for number in range(12)]
    assert len(set(seeds)) == 12


def test_bad_configurations_and_blocks_without_enough_scenes_are_named(tmp_path_factory):
    for wrong in ({"candidates": 0}, {"block": 0}, {"series": 0}):
        with pytest.raises(ConfigError, match=r"1\.\.256 candidates"):
            DiversityConfig(**wrong)
    sampler = parts.make_sampler(tmp_path_factory.mktemp("reach"), diversity=DiversityConfig(enabled=True, block=2))
    sampler._assets = []
    with pytest.raises(SceneError, match=r"only 0 of 8 candidates of 'turn_switch' have a scene: no asset"):
        sampler.choose(TurnSwitch(), range(8))
