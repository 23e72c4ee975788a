"""Recipes for world models: what they promise of experience, of the state space and of memory, and that each could begin."""

import dataclasses
import json

import pytest

from embodichain import tasks
from learner.codecs.config import EncoderConfig, LatentSpec
from learner.data.config import DataConfig
from learner.models.clwm.config import NextFrame
from learner.models.families import family_of
from learner.runs import catalog
from learner.runs.options import check_world
from learner.training.config import OptimizerConfig, Parallel, Schedule

CPU = (
    "turn_any_switch_cpu",
    "turn_fresh_switch_cpu",
    "switch_as_it_was_cpu",
    "put_block_back_cpu",
    "switches_cpu",
    "place_mouse_pad_cpu",
)


@pytest.mark.parametrize("name", CPU)
def test_a_policy_for_two_cores_meets_many_instances_under_varied_looks_and_physics(name):
    world = catalog.make(name).world
    check_world(world)
    assert world.visual.enabled and world.physical.enabled
    asked = tasks.categories(tasks.make(task) for task in world.tasks)
    assert asked and all(world.assets.counts[category] >= 20 for category in asked)


@pytest.mark.parametrize("name", CPU)
def test_it_is_a_world_model_that_can_learn_what_it_is_asked_and_nothing_carries_it_past_its_memory(name):
    config = catalog.make(name)
    agent = config.learner.agent
    assert agent.model.next_frame is NextFrame.CHANGE and agent.model.see_imagined and agent.model.own_imagination == 0.5
    assert agent.model.memory_blocks and config.learner.data.window == 0 and agent.model.history_noise_prob > 0
    assert agent.model.aim == 0, "where a thing stood in the first frame would be told without memory"
    assert agent.normalizer.exact and agent.normalizer.channels + 6 <= agent.model.dim
    model = family_of(agent.model).build(agent.model, LatentSpec(agent.normalizer.channels + 6, 6), 64)
    model.check_training()
    assert EncoderConfig(**json.loads(config.world.encode.options)) == agent.encoder


def test_the_papers_trainings_are_the_papers():
    pretrain, finetune = catalog.make("pretrain"), catalog.make("finetune")
    for config, rate in ((pretrain, 1e-4), (finetune, 1e-5)):
        learner, world = config.learner, config.world
        assert learner.optimizer.rate == rate and learner.optimizer.matrices == OptimizerConfig().matrices
        assert learner.accumulate * learner.data.batch_size * config.train.ranks == 128
        assert config.train.steps == 40_000 and learner.parallel is Parallel.FSDP
        check_world(world)
        assert world.visual.enabled and world.physical.enabled
        assert min(world.assets.counts.values()) >= 20
    assert set(pretrain.world.tasks) == set(tasks.TASKS) - {"counting"}
    assert finetune.learner.optimizer.memory_rate == 10.0 and finetune.learner.optimizer.schedule is Schedule.COSINE
    assert pretrain.learner.data == dataclasses.replace(DataConfig(), batch_size=1, window=0)
