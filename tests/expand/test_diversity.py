"""Laws of diversity: it covers more of what can be reached than as many uniform draws, and numbers alone decide what is chosen."""

import sys
from pathlib import Path

import numpy as np
import pytest

from embodichain.errors import ConfigError, SceneError
from embodichain.expand.diversity import FEATURES, DiversityConfig, Interaction, coverage, distances, features, spread
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import Pose
from embodichain.types.poses import turn

sys.path.insert(0, str(Path(__file__).parent.parent / "scenes"))
import scene_parts as parts

BASES = (("left", (-0.2, 0.3, 0.2)), ("right", (-0.2, -0.3, 0.2)))


def interaction(x=0.0, y=0.1, yaw=0.0, arms=("left", "right"), result=(0.0, 0.0, 0.0)):
    pose = Pose(position=(x, y, 0.05), quaternion=turn((0.0, 0.0, 1.0), yaw))
    return Interaction(contact=pose, arms=frozenset(arms), bases=BASES, result=result)


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
    }.items():
        assert abs(features(changed) - base)[FEATURES.index(name)] > 0.05, name
    half_turned = features(interaction(yaw=np.pi))
    assert distances(half_turned[None], base)[0] == pytest.approx(0.0, abs=1e-9)  # a parallel gripper cannot tell
    barely = distances(features(interaction(yaw=-0.01))[None], features(interaction(yaw=0.01)))[0]
    assert barely < 0.02  # angles have no border


def test_spread_keeps_different_ones_and_leaves_out_doubles():
    rng = np.random.default_rng(0)
    distinct = rng.random((6, 7))
    crowd = np.repeat(distinct, 20, axis=0) + 1e-4 * rng.standard_normal((120, 7))
    chosen = spread(crowd, 6)
    assert {index // 20 for index in chosen} == set(range(6))
    assert len(set(spread(crowd, 40))) == 40 and spread(crowd, 40)[:6] == chosen


def test_it_beats_uniform_sampling_at_equal_count(tmp_path_factory):
    sampler = parts.make_sampler(tmp_path_factory.mktemp("reach"), diversity=DiversityConfig(enabled=True, block=40))
    task = TurnSwitch()

    def seen(seeds):
        return np.array([features(sampler.interaction(task, sampler.sample(task, seed))) for seed in seeds])

    reachable = seen(range(10_000, 10_200))
    ratios, nearer = [], []
    for run in range(3):
        uniform = seen(range(1000 * run, 1000 * run + 40))
        chosen = sampler.choose(task, range(1000 * run + 100, 1000 * run + 260))
        assert sampler.choose(task, range(1000 * run + 100, 1000 * run + 260)) == chosen
        diverse = seen(chosen)
        ratios.append(coverage(diverse, reachable) / coverage(uniform, reachable))
        nearest = [np.mean([distances(found, member).min() for member in reachable]) for found in (uniform, diverse)]
        nearer.append(nearest[0] / nearest[1])
    assert min(ratios) > 1.0 and np.mean(nearer) > 1.05


def test_bad_configurations_and_blocks_without_enough_scenes_are_named(tmp_path_factory):
    with pytest.raises(ConfigError, match=r"1\.\.256 candidates"):
        DiversityConfig(candidates=0)
    sampler = parts.make_sampler(tmp_path_factory.mktemp("reach"), diversity=DiversityConfig(enabled=True, block=2))
    sampler._assets = []
    with pytest.raises(SceneError, match=r"only 0 of 8 candidates of 'turn_switch' have a scene: no asset"):
        sampler.choose(TurnSwitch(), range(8))
