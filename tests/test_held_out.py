"""Held-out scenes: never streamed, the same for every pilot, and shifted in what they say and in nothing else."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain import tasks
from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import MotionError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.rollout import ExpertPilot
from embodichain.tasks.held_out import Varied, Widened
from embodichain.world import Split, scene_seed
from learner.evaluation.config import EvaluateConfig, Shift
from learner.evaluation.episodes import Graded, PolicyPilot, Trace, episodes, evaluate, scores, wilson
from learner.evaluation.held_out import (
    HeldOut,
    _variant,
    beyond_physical,
    beyond_visual,
    of_world,
    scenes,
    shifted,
)
from learner.runs import recipes


@pytest.fixture(scope="module")
def held() -> HeldOut:
    config = recipes.counting(recipes.tiny_cpu())
    return of_world(prepare(config.world, lambda name, done, total: None))


def expert(task, scene, physics):
    return ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))


# ------------------------------------------------------------------------------------------------------------------ shifts


@settings(max_examples=40)
@given(st.floats(0.5, 1.0), st.floats(1.0, 1.5), st.booleans())
def test_physics_beyond_the_training_shares_no_value_with_it(low, high, enabled):
    trained = PhysicalConfig(enabled=enabled, density=(low, high), friction=(low, high), damping_ratio=(0.9, min(high, 1.3)))
    moved = beyond_physical(trained)
    for field in fields(PhysicalConfig):
        if field.name in ("enabled", "scale"):
            continue
        neutral = (0.0, 0.0) if field.name in ("ballast", "delay_s") else (1.0, 1.0)
        before, after = getattr(trained, field.name) if enabled else neutral, getattr(moved, field.name)
        assert after[0] < after[1]
        assert after[0] >= before[1] - 1e-12 or after[1] <= before[0] + 1e-12, field.name
    assert moved.enabled and moved.scale == (1.0, 1.0)


@settings(max_examples=40)
@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0.0, 1.0))
def test_lights_beyond_the_training_share_no_value_with_it(one, other, tilt):
    trained = VisualConfig(enabled=True, intensity=(min(one, other), max(one, other)), tilt=(0.0, tilt))
    moved = beyond_visual(trained)
    assert moved.temperature[0] >= trained.temperature[1]
    assert moved.intensity[1] <= trained.intensity[0]
    assert moved.tilt[0] >= trained.tilt[1] or trained.tilt[1] > 1.0
    assert moved.textures and not set(moved.textures) & set(trained.textures) and moved.patterned == 1.0
    assert moved.table_shade > trained.table_shade and moved.object_shade > trained.object_shade


def test_each_shift_moves_what_it_says_and_nothing_else():
    config = WorldConfig(assets=AssetsConfig(counts={"switch": 2, "mouse": 1, "mug": 3}), tasks=("turn_switch",))
    instances, looks, physics, placement, words, everything = (shifted(config, s) for s in list(Shift)[1:])
    assert shifted(config, Shift.NONE) == placement == words == config
    assert replace(instances, assets=config.assets) == config != instances
    assert replace(looks, visual=config.visual) == config != looks
    assert replace(physics, physical=config.physical) == config != physics
    assert everything == replace(config, assets=instances.assets, visual=looks.visual, physical=physics.physical)
    assert instances.assets.counts == {"switch": 2}, "only what the task may ask for is built anew"
    assert not set(instances.assets.instances) & set(config.assets.instances)


def test_wider_placement_is_half_as_wide_again_about_the_same_middle():
    task = tasks.make("turn_switch")
    plain, wide = (t.request(np.random.default_rng(3)) for t in (task, Widened(task)))
    for before, after in zip(plain.objects, wide.objects, strict=True):
        for name in ("x", "y"):
            was, now = getattr(before, name), getattr(after, name)
            assert now[1] - now[0] == pytest.approx(1.5 * (was[1] - was[0]))
            assert sum(now) == pytest.approx(sum(was))
        assert before.yaw == after.yaw
    assert plain.instruction == wide.instruction


@pytest.mark.parametrize("name", sorted(set(tasks.TASKS) - {"counting"}))
def test_words_held_out_ask_for_the_same_scenes_in_phrases_that_no_training_heard(name):
    def requests(task):
        return [task.request(np.random.default_rng(seed)) for seed in range(60)]

    plain, other, both = (requests(_variant(name, shift)) for shift in (Shift.NONE, Shift.WORDS, Shift.ALL))
    assert [replace(request, instruction="") for request in other] == [replace(request, instruction="") for request in plain]
    heard = {request.instruction for request in plain}
    assert not heard & {request.instruction for request in [*other, *both]}
    assert len({request.instruction for request in other}) >= 2
    one, again = np.random.default_rng(0), np.random.default_rng(0)
    _variant(name, Shift.NONE).request(one)
    _variant(name, Shift.WORDS).request(again)
    assert one.random() == again.random(), "what is drawn next is the same too"


def test_held_out_seeds_are_the_same_each_time_and_never_streamed(held):
    first, again = ([scene.seed for _, scene in scenes(held, 6)] for _ in range(2))
    assert first == again and len(set(first)) == 6
    streamed = {scene_seed(held.world.config.seed, Split.STREAM, number) for number in range(2_000)}
    assert not streamed & set(first)


# ----------------------------------------------------------------------------------------------------------------- episodes


def test_every_pilot_meets_the_same_scenes_and_known_ones_are_not_played_again(held):
    pilots = {"one": expert, "two": expert}
    played = [(e.pilot, e.number, e.scene.seed) for e in episodes(held, pilots, 3)]
    assert [row[1:] for row in played[:3]] == [row[1:] for row in played[3:]]
    rest = [(e.pilot, e.number, e.scene.seed) for e in episodes(held, pilots, 3, known=lambda p, t, n: p == "one" or n == 1)]
    assert rest == [row for row in played if row[0] == "two" and row[1] != 1]


def test_a_pilot_that_finds_no_way_has_failed_and_the_next_episode_goes_on(held):
    class Lost:
        def look(self, frame):
            raise MotionError("no way")

        def command(self, state):
            return None

    rows = [Graded.of(e, Shift.NONE) for e in episodes(held, {"lost": lambda *a: Lost(), "expert": expert}, 2)]
    assert [row.success for row in rows] == [False, False, True, True]
    assert rows[0].reason == "no way" and rows[0].chunks == 0
    told = [(s.pilot, s.successes, s.episodes, (s.low, s.high)) for s in scores(rows)]
    assert told == [("lost", 0, 2, wilson(0, 2)), ("expert", 2, 2, wilson(2, 2))]


def test_evaluate_reports_every_episode_and_stops_when_asked(held):
    seen, firsts = [], []
    found = evaluate(
        held.world,
        {"expert": expert},
        EvaluateConfig(episodes=3),
        progress=lambda *row: seen.append(row),
        on_first=lambda episode: firsts.append(episode.pilot),
        stop=lambda: False,
    )
    assert seen == [("evaluate", i, 3) for i in (1, 2, 3)] and firsts == ["expert"]
    assert [(s.successes, s.episodes) for s in found] == [(3, 3)]
    stopped = evaluate(
        held.world, {"expert": expert}, EvaluateConfig(episodes=3), progress=print, on_first=print, stop=lambda: True
    )
    assert stopped == []


class Seer:
    """A policy that imagines: every latent of frame t is t, and it expects t + 1."""

    chunk = 16

    def begin(self, instruction: str) -> None:
        self.t = -1
        self.closed = False

    def act(self, rgb, proprio):
        self.t += 1
        return np.repeat(proprio[None], 16, axis=0)

    def close(self) -> None:
        self.closed = True

    @property
    def seen(self):
        return _tensor(self.t)

    @property
    def imagined(self):
        return _tensor(self.t + 1)


class NeverContent(Varied):
    """A task that nobody accomplishes: its episodes last to the end."""

    def request(self, rng):
        return self._task.request(rng)

    def grader(self, scene):
        grader = self._task.grader(scene)
        judged = grader.verdict
        grader.verdict = lambda: replace(judged(), success=False)
        return grader


def _tensor(value: float):
    import torch

    return torch.full((2, 3), float(value))


def test_what_a_policy_imagined_is_compared_with_what_came(held):
    made: list[Seer] = []

    def pilot(task, scene, physics):
        made.append(Seer())
        return PolicyPilot(made[-1], held_codec(held))

    (task,) = held.tasks
    (episode,) = episodes(replace(held, tasks=(NeverContent(task),)), {"seer": pilot}, 1)
    assert episode.trace.errors() == (0.0, 1.0), "it imagines exactly; frames change by one"
    assert len(episode.trace.seen) == episode.outcome.num_chunks
    assert made[0].closed
    assert Trace().errors() is None


def held_codec(held: HeldOut):
    from embodichain.motion.action import ActionCodec

    return ActionCodec(held.world.robot)
