"""A block on its way from hand to hand slips, is knocked aside, run into or waited for: noticed by name and made good."""

import numpy as np
import pytest
import scene_parts as parts
from staging import Stage
from table_parts import block, sampler_of

from embodichain.recovery.config import Kinds, RecoveryConfig
from embodichain.tasks.handover_block import HandoverBlock
from embodichain.types import Mishap, Segment


@pytest.fixture(scope="module")
def blocks(reach_dir):
    return sampler_of([block(0.036), block(0.044), parts.pad(0.21)], reach_dir)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Mishap.SLIP, Mishap.OUT_OF_BOUNDS, Mishap.COLLISION, Mishap.TIME_OUT])
def test_what_is_provoked_is_noticed_by_name_and_made_good(physics, blocks, kind: Mishap) -> None:
    task = HandoverBlock(RecoveryConfig(probability=1.0, kinds=Kinds.only(kind)))
    for seed in range(1, 5):  # a block may lie where nobody can knock it aside
        scene = blocks.sample(task, seed)
        stage = Stage(physics, scene, task.grader(scene))
        stage.expert(task, seed=seed)
        if stage.mishaps:
            break
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert stage.mishaps == [kind]
    changes = [stage.segments[0], *(b for a, b in zip(stage.segments, stage.segments[1:], strict=False) if a != b)]
    assert changes == [Segment.FAILURE, Segment.RECOVERY]
    assert np.isfinite(stage.command).all()
