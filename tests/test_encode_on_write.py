"""Latents that workers put into the ring are those that the learner would have computed from the pixels."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import EncodeConfig, WorldConfig
from embodichain.engine import Engine
from embodichain.errors import ConfigError, LearnerError
from embodichain.prepare import prepare
from embodichain.ring.ring import Ring
from embodichain.stages import RolloutStage, SceneStage
from embodichain.types import RingSpec
from embodichain.world import World
from learner.codecs.config import EncoderConfig
from learner.codecs.dino import Encoder
from learner.data.config import DataConfig
from learner.data.dataset import RingDataset
from learner.models.agent import Agent
from learner.models.config import AgentConfig
from learner.runs.catalog import make
from learner.runs.config import encode_on_write

SMALL = EncoderConfig(dim=24, layers=2, heads=2, merge=2)


@pytest.fixture(scope="module")
def worlds() -> tuple[World, World]:
    """The same world streaming pixels and streaming latents."""
    config = WorldConfig(tasks=("turn_switch",), assets=AssetsConfig(counts={"switch": 1}), seed=3)
    plain = prepare(config, lambda *_: None)
    return plain, dataclasses.replace(plain, config=dataclasses.replace(config, encode=encode_on_write(SMALL)))


def ring_for(world: World) -> Ring:
    return Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=2, max_reads=4, min_ready=1))


def test_the_ring_holds_the_encoders_latents_and_no_pixels(worlds, no_shared_memory_left):
    plain, encoding = worlds
    encoder = Encoder(SMALL)
    with ring_for(encoding) as ring, Engine(encoding, ring, limit=1) as engine:
        engine.feed()
        assert engine.report.timings.encode_s > 0
        with ring.sample(1, timeout_s=0.0) as batch:
            slot = batch[0]
            names = {entry.name for entry in ring.spec.trajectory.fields}
            assert "rgb" not in names and slot["latents"].shape[1:] == (3, 2, 2, 96)
            frames = int(slot["num_chunks"]) + 1
            pixels = plain.trajectory_spec.allocate()
            stage = RolloutStage(plain, ring, worker=0, epoch=0)
            stage.play(*SceneStage(plain).step(0), pixels)
            stage.close()
            np.testing.assert_array_equal(slot["action"][: frames - 1], pixels["action"][: frames - 1])
            np.testing.assert_array_equal(slot["latents"][:frames], encoder.encode(pixels["rgb"][:frames]))
            assert (slot["latents"][frames:] == 0).all()


def test_a_batch_of_latents_teaches_what_its_pixels_teach(worlds, no_shared_memory_left):
    losses = []
    for world in worlds:
        with ring_for(world) as ring, Engine(world, ring, limit=2) as engine:
            engine.feed()
            engine.feed()
            dataset = RingDataset(ring, DataConfig(batch_size=2, window=3))
            agent = Agent(AgentConfig(encoder=SMALL))
            leased = dataset.draw()
            batch = leased.gather()
            leased.release()
            measurement = agent.new_measurement()
            agent.measure(batch, measurement)
            agent.normalizer.fit(measurement)
            losses.append(agent.losses(batch, torch.Generator().manual_seed(0)).total.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)  # float16 in the ring


def test_latents_of_another_encoder_are_refused(worlds, no_shared_memory_left):
    with ring_for(worlds[1]) as ring, Engine(worlds[1], ring, limit=1) as engine:
        engine.feed()
        leased = RingDataset(ring, DataConfig(batch_size=1, window=3)).draw()
        batch = leased.gather()
        leased.release()
    with pytest.raises(LearnerError, match="96 channels"):
        Agent(AgentConfig(encoder=EncoderConfig(dim=24, layers=2, heads=2))).encoded(batch)


@pytest.mark.parametrize(
    "wrong",
    [
        EncodeConfig(factory="learner.nowhere:f"),
        EncodeConfig(factory="learner.codecs.catalog:nothing"),
        EncodeConfig(factory="learner.codecs.catalog:for_writing", options="{"),
        EncodeConfig(factory="learner.codecs.catalog:for_writing", options=json.dumps({"size": 3})),
    ],
)
def test_an_encoder_that_cannot_be_made_is_named(wrong):
    with pytest.raises(ConfigError, match="cannot be encoded by"):
        wrong.make()


def test_workers_and_agent_must_agree_on_the_encoder():
    config = make("turn_switch_cpu")
    other = dataclasses.replace(config.learner.agent, encoder=EncoderConfig(source="builtin", merge=1))
    with pytest.raises(ConfigError, match="alike"):
        dataclasses.replace(config, learner=dataclasses.replace(config.learner, agent=other))
