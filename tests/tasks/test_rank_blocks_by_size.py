"""rank_blocks_by_size: its expert succeeds, and its grader sees every wrong row and every block that was not carried."""

from dataclasses import replace

import numpy as np
import pytest
from staging import Stage
from table_parts import block, carried, drop, let_go, put, sampler_of, shove, throw

from embodichain.errors import SceneError
from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks.rank_blocks_by_size import ROLES, SIZE_STEP, RankBlocksBySize, misplaced
from embodichain.types import Contact, Segment

TASK = RankBlocksBySize()
EDGES = (0.035, 0.041, 0.048)


@pytest.fixture(scope="module")
def blocks(reach_dir):
    return sampler_of([block(edge) for edge in EDGES], reach_dir)


@pytest.fixture
def stage(physics, blocks) -> Stage:
    scene = blocks.sample(TASK, 2)
    return Stage(physics, scene, TASK.grader(scene))


@pytest.mark.parametrize("seed", range(2))
def test_the_expert_ranks_the_blocks(physics, blocks, seed: int) -> None:
    scene = blocks.sample(TASK, seed)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    stage.hold(0.5)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 14.0
    speed, acceleration = stage.peaks
    limits = HandConfig().limits
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


@pytest.mark.slow
def test_a_missed_block_is_tried_again(physics, blocks) -> None:
    task = RankBlocksBySize(RecoveryConfig(probability=1.0, kinds=MISALIGNED))
    scene = blocks.sample(task, 2)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    stage.hold(0.5)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


def test_sizes_follow_the_instruction(blocks) -> None:
    for seed in range(12):
        scene = blocks.sample(TASK, seed)
        edges = [scene.object(role).asset.bounds[1, 0] for role in ROLES]
        words = scene.instruction.lower()
        growing = (
            words.index("smallest") < words.index("largest") if "largest" in words and "smallest" in words else "smallest" in words
        )
        assert edges == sorted(edges, reverse=not growing)


def test_held_out_scenes_use_other_words_and_more_room(blocks) -> None:
    held_out = RankBlocksBySize(held_out=True)
    ours = {TASK.request(np.random.default_rng(seed)).instruction for seed in range(40)}
    theirs = {held_out.request(np.random.default_rng(seed)).instruction for seed in range(40)}
    assert len(ours) == 8 and len(theirs) == 4 and not ours & theirs
    assert held_out.request(np.random.default_rng(0)).objects[0].x[1] > TASK.request(np.random.default_rng(0)).objects[0].x[1]


def test_blocks_alike_are_refused(reach_dir) -> None:
    alike = sampler_of([block(0.04), block(0.04 + SIZE_STEP / 2)], reach_dir)
    with pytest.raises(SceneError, match="differ by"):
        alike.sample(TASK, 0)


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def row(stage: Stage, *, gaps=(0.02, 0.02), roles=ROLES, aside: float = 0.0) -> None:
    """The blocks are suddenly in a row."""
    y = 0.1
    for index, role in enumerate(roles):
        half = float(stage.scene.object(role).asset.bounds[1, 1])
        put(stage, role, 0.0 + (aside if index == 1 else 0.0), y - half, z=0.0005)
        y -= 2 * half + (gaps[index] if index < 2 else 0.0)


def test_a_row_that_nobody_made_fails(stage: Stage) -> None:
    row(stage)
    stage.hold(1.0)
    assert not stage.verdict.success


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"roles": ROLES[::-1]}, "left to right"),
        ({"roles": ("middle", "left", "right")}, "order"),
        ({"gaps": (0.01, 0.04)}, "uneven"),
        ({"gaps": (0.08, 0.08)}, "apart"),
        ({"aside": 0.045}, "beside the line"),
    ],
)
def test_a_wrong_row_fails_though_the_blocks_were_carried(physics, blocks, wrong, reason: str) -> None:
    """The grader is shown an honest episode whose last states show another row."""
    scene = blocks.sample(TASK, 2)
    stage = Stage(physics, scene, TASK.grader(scene))
    stage.expert(TASK, until=carried("left", 0.03))
    row(stage, **wrong)
    assert reason in misplaced(scene, stage.physics.step(stage.command))
    stage.hold(0.2)
    assert not stage.verdict.success


def held_role(stage: Stage) -> str:
    """The block that the expert lifts first."""
    twin = Stage(stage.physics, stage.scene, TASK.grader(stage.scene))
    twin.expert(TASK, until=lambda state: any(carried(role, 0.03)(state) for role in ROLES))
    role = next(role for role in ROLES if carried(role, 0.03)(twin.state))
    stage.state = stage.physics.reset(stage.scene)
    return role


def test_a_dropped_block_fails_though_the_row_is_made_later(stage: Stage) -> None:
    role = held_role(stage)
    drop(stage, TASK, role, 0.04)
    assert "dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason
    row(stage)
    stage.hold(0.8)
    assert not stage.verdict.success


def test_a_thrown_block_fails(stage: Stage) -> None:
    throw(stage, TASK, held_role(stage), 0.04)
    assert not stage.verdict.success and ("thrown" in stage.verdict.reason or "dropped" in stage.verdict.reason)


@pytest.mark.slow
def test_a_block_pushed_into_place_fails(stage: Stage) -> None:
    shove(stage, "left", 0.06)
    assert "pushed" in stage.verdict.reason or "slid" in stage.verdict.reason
    stage.expert(TASK)
    stage.hold(0.5)
    assert not stage.verdict.success


def test_a_block_still_held_fails(stage: Stage) -> None:
    stage.expert(TASK)
    stage.hold(0.5)
    assert stage.verdict.success
    grader = stage.grader
    touch = replace(
        stage.state, contacts=(*stage.state.contacts, Contact(first="robot/left/finger_l", second="left/body", force=2.0))
    )
    grader.observe(touch)
    assert not grader.verdict().success and "untouched" in grader.verdict().reason


def test_letting_go_on_the_table_is_no_drop(stage: Stage) -> None:
    role = held_role(stage)
    stage.expert(TASK, until=lambda state: state.touching("robot/", f"{role}/"))
    let_go(stage)
    stage.hold(0.3)
    assert "dropped" not in stage.verdict.reason and "thrown" not in stage.verdict.reason
