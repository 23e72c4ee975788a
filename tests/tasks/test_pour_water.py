"""pour_water in real physics: the expert pours, and no other way of getting the grains into the cup passes the grader."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scene_parts as parts
from staging import Stage
from table_parts import drop, sampler_of, shove, throw
from vessel_parts import vessel

from embodichain.motion.action import ActionCodec
from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, Kinds, Miss, RecoveryConfig
from embodichain.rollout import ExpertPilot, replay, rollout
from embodichain.tasks.flow import within
from embodichain.tasks.pour_water import PourWater, arms_of, missing
from embodichain.types import Contact, Mishap, Pose, Scene, Segment, WorldState, camera_spec
from embodichain.types.poses import multiply, turn

TASK = PourWater()
FEW = 12
"""Grains in the scenes of cheats: enough for a share, and quick."""


@pytest.fixture(scope="module")
def kitchen(reach_dir):
    carafe = vessel("carafe", 0.028, 0.145, mouth=0.85, mass=0.085)
    return sampler_of([carafe, vessel("cup", 0.0285, 0.085, mass=0.13)], reach_dir)


@pytest.fixture(scope="module")
def scene(kitchen) -> Scene:
    found = kitchen.sample(TASK, 3)
    return replace(found, grains=replace(found.grains, positions=found.grains.positions[:FEW]))


@pytest.fixture
def stage(physics, scene) -> Stage:
    return Stage(physics, scene, TASK.grader(scene))


class Recorder:
    """Keeps what a grader was shown."""

    def __init__(self, grader) -> None:
        self.grader, self.states = grader, []

    def observe(self, state: WorldState) -> None:
        self.states.append(state)
        self.grader.observe(state)

    def pardon(self) -> None:
        self.grader.pardon()

    def verdict(self):
        return self.grader.verdict()


@pytest.fixture(scope="module")
def poured(physics, scene):
    """One episode of the expert: its stage, whose grader has every state."""
    stage = Stage(physics, scene, Recorder(TASK.grader(scene)))
    stage.expert(TASK)
    return stage


def judge(scene: Scene, states):
    """What a grader says of an episode that went so."""
    grader = TASK.grader(scene)
    for state in states:
        grader.observe(state)
    return grader.verdict()


def tipped(state: WorldState, role: str, angle: float) -> WorldState:
    """The same moment, but that an object leans."""
    pose = state.object_poses[role]
    leaning = Pose(position=pose.position, quaternion=multiply(pose.quaternion, turn((1.0, 0.0, 0.0), angle)))
    return replace(state, object_poses={**state.object_poses, role: leaning})


# ------------------------------------------------------------------------------------------------------------ successes


def test_the_expert_pours_within_limits_and_sets_both_down(poured: Stage) -> None:
    assert poured.verdict.success and f"{FEW} of {FEW} grains" in poured.verdict.reason
    states = poured.grader.states
    limits = HandConfig().limits
    speed, acceleration = poured.peaks
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration
    assert max(state.deepest() for state in states) < 0.003 and len(states) / 50 < 15.0
    assert set(poured.segments) == {Segment.NOMINAL}
    pourer, holder = arms_of(poured.scene)
    both = [s for s in states if s.touching(f"robot/{pourer}/", "bottle/") and s.touching(f"robot/{holder}/", "cup/")]
    assert len(both) > 100


def test_requests_mirror_and_name_the_drink_they_colour(kitchen) -> None:
    sides, instructions = set(), set()
    for seed in range(40):
        request = TASK.request(np.random.default_rng(seed))
        bottle, cup = request.objects
        sides.add(bottle.y[0] > cup.y[1])
        instructions.add(request.instruction)
        assert request.filling is not None and request.filling.role == "bottle"
    held_out = {PourWater(held_out=True).request(np.random.default_rng(seed)).instruction for seed in range(40)}
    assert sides == {True, False} and len(instructions) > 6 and len(held_out) > 3 and not instructions & held_out
    wider = PourWater(held_out=True).request(np.random.default_rng(0)).objects[0]
    assert wider.x[1] - wider.x[0] == pytest.approx(1.5 * 0.18)


@pytest.mark.slow
@pytest.mark.parametrize("miss", [Miss.ASIDE, Miss.ABOVE])
def test_a_missed_grip_is_seen_repeated_and_labelled(physics, scene, miss: Miss) -> None:
    always = RecoveryConfig(probability=1.0, kinds=MISALIGNED)
    task = PourWater(always)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task, seed=next(seed for seed in range(20) if always.draw(np.random.default_rng(seed)).miss is miss))
    assert stage.verdict.success, stage.verdict.reason
    assert stage.segments.count(Segment.FAILURE) > 40 and stage.segments.count(Segment.RECOVERY) > 40


@pytest.mark.slow
def test_arms_that_stand_still_for_no_reason_are_noticed_and_pour_all_the_same(physics, scene) -> None:
    task = PourWater(RecoveryConfig(probability=1.0, kinds=Kinds.only(Mishap.TIME_OUT)))
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


@pytest.mark.slow
def test_stored_actions_replay_every_grain_bitwise(physics, kitchen) -> None:
    scene = kitchen.sample(TASK, 5)
    spec = camera_spec(cameras=3, height=32, width=32, horizon=60)
    out, codec = spec.allocate(), ActionCodec(parts.ROBOT)
    pilot = ExpertPilot(TASK, scene, physics, np.random.default_rng(scene.seed))
    outcome = rollout(physics, codec, scene, pilot, TASK.grader(scene), out, spec)
    assert outcome.verdict.success, outcome.verdict.reason
    ended = physics.world.data.qpos.tobytes()
    grader = TASK.grader(scene)
    replay(physics, codec, scene, out["action"][: outcome.num_chunks], grader)
    assert physics.world.data.qpos.tobytes() == ended and grader.verdict() == outcome.verdict


# --------------------------------------------------------------------------------------------------------------- cheats


def test_nothing_done_fails(stage: Stage) -> None:
    stage.hold(0.6)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason


def test_a_dropped_bottle_fails(stage: Stage) -> None:
    drop(stage, TASK, "bottle", 0.05)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


@pytest.mark.slow
def test_a_thrown_bottle_fails(stage: Stage) -> None:
    throw(stage, TASK, "bottle", 0.05)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


def test_a_shoved_cup_fails(stage: Stage) -> None:
    shove(stage, "cup", 0.06)
    assert not stage.verdict.success and "the cup" in stage.verdict.reason


def test_grains_that_are_suddenly_in_the_cup_do_not_count(poured: Stage) -> None:
    """The expert's motions, but the grains jump from the bottle into the cup halfway."""
    states = poured.grader.states
    start, end = states[0].grain_positions, states[-1].grain_positions
    half = next(i for i, s in enumerate(states) if within(poured.scene, s, "cup").any())
    jumping = [replace(s, grain_positions=start if i < half else end) for i, s in enumerate(states)]
    verdict = judge(poured.scene, jumping)
    assert not verdict.success and "flowed from the held bottle" in verdict.reason


def test_grains_that_glide_through_the_walls_do_not_count(poured: Stage) -> None:
    states = poured.grader.states
    start, end = states[0].grain_positions, states[-1].grain_positions
    shares = np.linspace(0.0, 1.0, len(states))
    gliding = [replace(s, grain_positions=start + t * (end - start)) for s, t in zip(states, shares, strict=True)]
    verdict = judge(poured.scene, gliding)
    assert not verdict.success and "flowed from the held bottle" in verdict.reason


def test_grains_in_the_cup_with_both_vessels_untouched_fail(stage: Stage, poured: Stage) -> None:
    data, grains = stage.physics.world.data, stage.physics.world.grains
    data.qpos[grains.qpos] = poured.grader.states[-1].grain_positions.ravel()
    stage.hold(0.6)
    assert not missing(stage.scene, stage.state)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason


def test_grains_scooped_away_again_fail(poured: Stage) -> None:
    """A fifth and one more leave the cup after all was well; putting them back mends nothing."""
    states = list(poured.grader.states)
    taken = states[-1].grain_positions.copy()
    taken[: FEW // 5 + 1] += (0.06, 0.0, 0.05)
    away = [*states, *(replace(states[-1], grain_positions=taken) for _ in range(10))]
    verdict = judge(poured.scene, away)
    assert not verdict.success and f"of {FEW} grains are in the cup" in verdict.reason
    verdict = judge(poured.scene, [*away, *[states[-1]] * 30])
    assert not verdict.success and "flowed from the held bottle" in verdict.reason


def test_a_cup_that_tips_fails_even_when_it_is_set_up_again(poured: Stage) -> None:
    states = list(poured.grader.states)
    middle = len(states) // 2
    states[middle : middle + 5] = [tipped(state, "cup", math.radians(20)) for state in states[middle : middle + 5]]
    verdict = judge(poured.scene, states)
    assert not verdict.success and "the cup leaned by 2" in verdict.reason


def test_one_arm_alone_fails(poured: Stage) -> None:
    """The same events as if one arm had held both: it cannot, so the cup counts as not held."""
    pourer, holder = arms_of(poured.scene)

    def renamed(name: str) -> str:
        return name.replace(f"robot/{holder}/", f"robot/{pourer}/")

    alone = [
        replace(s, contacts=tuple(replace(c, first=renamed(c.first), second=renamed(c.second)) for c in s.contacts))
        for s in poured.grader.states
    ]
    verdict = judge(poured.scene, alone)
    assert not verdict.success and "into the held cup" in verdict.reason


@pytest.mark.parametrize(("role", "why"), [("cup", "never touched the cup"), ("bottle", "the bottle")])
def test_a_vessel_that_no_hand_touched_fails(poured: Stage, role: str, why: str) -> None:
    def kept(contact: Contact) -> bool:
        pair = {contact.first.split("/")[0], contact.second.split("/")[0]}
        return pair != {"robot", role}

    loose = [replace(s, contacts=tuple(c for c in s.contacts if kept(c))) for s in poured.grader.states]
    verdict = judge(poured.scene, loose)
    assert not verdict.success and (why in verdict.reason or "the cup" in verdict.reason)


def test_vessels_still_in_the_hands_or_grains_in_motion_fail(poured: Stage) -> None:
    states = poured.grader.states
    touch = Contact(first="robot/left/finger_l", second="bottle/body", force=2.0)
    held = judge(poured.scene, [*states, replace(states[-1], contacts=(*states[-1].contacts, touch))])
    assert not held.success and "untouched" in held.reason
    moving = judge(poured.scene, [*states, replace(states[-1], grain_velocities=np.full((FEW, 3), 0.2))])
    assert not moving.success and "still move" in moving.reason
    leaning = judge(poured.scene, [*states, tipped(states[-1], "bottle", math.radians(8))])
    assert not leaning.success and "the bottle leans" in leaning.reason
