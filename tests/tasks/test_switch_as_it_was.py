"""switch_as_it_was: a push hides where the lever was, the expert remembers it, and whoever forgets is at chance."""

from dataclasses import replace

import numpy as np
import pytest
import scene_parts as parts

from embodichain.episode import NoPictures, Outcome
from embodichain.motion.action import ActionCodec
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.rollout import ExpertPilot, replay, rollout
from embodichain.tasks.switch_as_it_was import CHUNKS_APART, SwitchAsItWas, first_side
from embodichain.types import CHUNK, Pushed, Scene, Step, WorldState, camera_spec

TASK = SwitchAsItWas()


class Watched:
    """Holds still, or does what another pilot does, and keeps all that it could see of the world."""

    def __init__(self, pilot=None) -> None:
        self.pilot = pilot
        self.states: list[WorldState] = []

    def look(self, frame) -> None:
        """A pilot without eyes."""

    def command(self, state: WorldState) -> Step | None:
        self.states.append(state)
        if self.pilot is not None:
            return self.pilot.command(state)
        return Step(command=self.states[0].measured)


def becomes(scene: Scene) -> float:
    """The side to which the lever is pushed."""
    over = np.array(scene.happening[0].force[:2]) @ along(scene)
    return float(np.sign(over))


def along(scene: Scene) -> np.ndarray:
    w, _, _, z = scene.object("switch").pose.quaternion
    yaw = 2.0 * np.arctan2(z, w)
    return np.array([np.cos(yaw), np.sin(yaw)])


def played(physics: MujocoPhysics, scene: Scene, pilot) -> tuple[Outcome, dict]:
    spec = camera_spec(cameras=len(physics.robot.cameras), height=16, width=16, horizon=40)
    out = spec.allocate()
    outcome = rollout(
        physics, ActionCodec(physics.robot), scene, pilot, TASK.grader(scene), out, spec, until_success=True, shutter=NoPictures()
    )
    return outcome, out


def scenes(sampler) -> dict[tuple[bool, bool], Scene]:
    """One scene of each case: on at first, pushed on."""
    found = {}
    for seed in range(40):
        scene = sampler.sample(TASK, seed)
        found.setdefault((first_side(scene) > 0, becomes(scene) > 0), scene)
    return found


def twin(scene: Scene) -> Scene:
    """The same scene, but for where the lever is at first."""
    placed = scene.object("switch")
    return replace(scene, objects=(replace(placed, joint_positions=(-placed.joint_positions[0],)),))


@pytest.fixture(scope="module")
def cases(sampler):
    return scenes(sampler)


def test_all_four_cases_are_drawn_alike_and_words_tell_none(sampler) -> None:
    drawn = [sampler.sample(TASK, seed) for seed in range(60)]
    kinds = [(first_side(scene) > 0, becomes(scene) > 0) for scene in drawn]
    assert all(6 <= kinds.count(kind) <= 25 for kind in ((a, b) for a in (True, False) for b in (True, False)))
    for words in {scene.instruction for scene in drawn}:
        assert len({kind for kind, scene in zip(kinds, drawn, strict=True) if scene.instruction == words}) == 4


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("pushed_on", [True, False])
def test_the_expert_puts_the_lever_back_and_whoever_does_nothing_is_right_when_nothing_was_to_do(
    physics, cases, on: bool, pushed_on: bool
) -> None:
    scene = cases[on, pushed_on]
    expert = Watched(ExpertPilot(TASK, scene, physics, np.random.default_rng(0)))
    outcome, _ = played(physics, scene, expert)
    assert outcome.verdict.success, outcome.verdict.reason
    angle = expert.states[round(1.2 * 50)].object_joints["switch"][0]
    assert (angle > 0.4) == pushed_on and abs(angle) > 0.4, "the push ends at a stop"
    still, _ = played(physics, scene, Watched())
    assert still.verdict.success == (on == pushed_on), still.verdict.reason


def test_nothing_is_decided_before_the_time_is_over(physics, cases) -> None:
    outcome, _ = played(physics, cases[True, True], Watched())
    assert outcome.num_chunks > CHUNKS_APART > 20


def test_a_memory_free_policy_is_at_chance_for_it_sees_the_same_and_must_do_the_opposite(physics, cases) -> None:
    """Of two scenes that differ in how they begin alone, all is the same once the push is over, to what no camera could tell; the
    same actions then lead to the same end, which is right in exactly one of them."""
    scene = cases[True, False]
    pilots = [Watched(), Watched()]
    verdicts = []
    for case, pilot in zip((scene, twin(scene)), pilots, strict=True):
        verdicts.append(played(physics, case, pilot)[0].verdict.success)
    assert sorted(verdicts) == [False, True]
    for one, other in zip(*(pilot.states[4 * CHUNK : CHUNKS_APART * CHUNK : CHUNK] for pilot in pilots), strict=True):
        assert abs(one.object_joints["switch"][0] - other.object_joints["switch"][0]) < 1e-3
        np.testing.assert_allclose(one.measured, other.measured, atol=1e-4)
    _, out = played(physics, scene, ExpertPilot(TASK, scene, physics, np.random.default_rng(0)))
    actions = out["action"][: int(out["num_chunks"])]
    assert abs(actions[4 * CHUNK // CHUNK :]).max() > 0
    for case, right in ((scene, True), (twin(scene), False)):
        grader = TASK.grader(case)
        replay(physics, ActionCodec(physics.robot), case, actions, grader, pushed=case.happening)
        assert grader.verdict().success == right


def test_what_happens_is_recorded_so_that_a_replay_is_pushed_the_same_way(physics, cases) -> None:
    scene = cases[True, False]
    outcome, _ = played(physics, scene, Watched())
    assert [(p.begin, p.steps, p.body) for p in outcome.pushed] == [(p.begin, p.steps, p.body) for p in scene.happening]
    assert all(isinstance(push, Pushed) for push in outcome.pushed)


def test_a_lever_that_moves_by_itself_later_is_no_success(physics, cases) -> None:
    scene = cases[True, False]
    again = replace(
        scene,
        happening=(*scene.happening, replace(scene.happening[0], begin=200, force=tuple(-f for f in scene.happening[0].force))),
    )
    outcome, _ = played(physics, again, Watched())
    assert not outcome.verdict.success and "without the robot touching" in outcome.verdict.reason


def test_a_push_takes_as_long_for_a_robot_of_another_rate(sampler, reach_dir) -> None:
    slow, reach = replace(parts.ROBOT, control_hz=parts.ROBOT.control_hz // 2), parts.ReachTable.load_or_build
    slowly = parts.SceneSampler(slow, parts.assets(), reach(parts.ROBOT, parts.COARSE, cache_dir=reach_dir))
    (usual,), (rare,) = sampler.sample(TASK, 0).happening, slowly.sample(TASK, 0).happening
    assert rare.begin / slow.control_hz == pytest.approx(usual.begin / parts.ROBOT.control_hz, abs=0.51 / slow.control_hz)
    assert rare.steps / slow.control_hz == pytest.approx(usual.steps / parts.ROBOT.control_hz, abs=0.51 / slow.control_hz)
