"""Pictures between frames: those of the moments that they stand for, in every mode, and the same whoever encodes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.darkroom_stage import DarkroomStage
from embodichain.episode import Replay
from embodichain.errors import ConfigError, LearnerError
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.ring.ring import Ring
from embodichain.rollout import drive
from embodichain.stages import RolloutStage, SceneStage
from embodichain.types import CHUNK, RingSpec
from embodichain.types.reels import CameraMode, reel_spec
from embodichain.world import World
from learner.codecs.config import EncoderConfig
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.models.agent import Agent
from learner.models.config import AgentConfig, NormalizerConfig
from learner.models.cowvla import sizes as cowvla
from learner.models.x_wam import sizes as x_wam
from learner.runs.config import encode_on_write

INSIDE = 3


@pytest.fixture(scope="module")
def world() -> World:
    """Looks vary within an episode, cameras shake and pictures are noisy, so that every moment has a picture of its own."""
    config = WorldConfig(
        tasks=("turn_switch",),
        assets=AssetsConfig(counts={"switch": 1}),
        visual=VisualConfig(enabled=True),
        between=INSIDE,
        horizon=24,
        seed=3,
    )
    return prepare(config, lambda *_: None)


def settings(world: World, **changes) -> World:
    return replace(world, config=replace(world.config, **changes))


def played(world: World, camera: CameraMode = CameraMode.SNAPSHOTS) -> dict[str, np.ndarray]:
    """The first successful episode of a world, as it is published."""
    through = reel_spec(world.stream_spec) if camera is CameraMode.DARKROOM else world.stream_spec
    with (
        Ring.create(RingSpec(trajectory=through, num_slots=1, max_reads=1)) as ring,
        Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=1, max_reads=1)) as developed,
    ):
        stage, number = RolloutStage(world, ring, worker=0, epoch=0, camera=camera), 0
        scenes = SceneStage(world)
        while stage.step(number, *scenes.step(number), timeout_s=0.0).fate not in ("published", "exposed"):
            number += 1
        if camera is CameraMode.DARKROOM:
            darkroom = DarkroomStage(world, ring, developed)
            assert darkroom.step(timeout_s=0.0) is not None
            darkroom.close()
        stage.close()
        with (developed if camera is CameraMode.DARKROOM else ring).sample(1, timeout_s=0.0) as batch:
            return {field.name: np.array(batch[0][field.name]) for field in world.stream_spec.fields}


@pytest.fixture(scope="module")
def episode(world) -> dict[str, np.ndarray]:
    return played(world)


def test_a_picture_inside_a_chunk_shows_the_moment_it_stands_for_and_changes_nothing_else(world, episode):
    chunks = int(episode["num_chunks"])
    assert episode["between"].shape == (24, INSIDE, 3, 64, 64, 3) and not episode["between"][chunks:].any()
    without = played(settings(world, between=0))
    assert "between" not in without
    for name, values in without.items():
        if name != "info":  # which holds the settings
            np.testing.assert_array_equal(episode[name], values, name)
    physics, seen = world.make_physics(), np.empty_like(episode["between"][0, 0])
    scenes, number = SceneStage(world), int(episode["trajectory_id"]) & 0xFFFFFFFF
    _, scene = scenes.step(number)
    steps = drive(physics, scene, Replay(RolloutStage(world, None, worker=0, epoch=0).codec, episode["action"][:chunks]))
    for step, _ in enumerate(steps):
        chunk, place = divmod(step, CHUNK)
        if place and place % (CHUNK // (INSIDE + 1)) == 0:
            physics.render(seen)
            np.testing.assert_array_equal(episode["between"][chunk, place // 4 - 1], seen)
    physics.close()


@pytest.mark.parametrize("camera", [CameraMode.REELS, CameraMode.DARKROOM])
def test_they_are_the_same_whenever_and_wherever_they_are_drawn(world, episode, camera):
    later = played(world, camera)
    for name, values in episode.items():
        if name != "info":
            np.testing.assert_array_equal(later[name], values, name)


def agent_for(codec: str, model) -> Agent:
    encoder = EncoderConfig(codec=codec)
    return Agent(AgentConfig(encoder=encoder, normalizer=NormalizerConfig(cameras=3), model=model)).eval()


@pytest.mark.parametrize(
    ("codec", "model"),
    [("vae", replace(x_wam.smallest(), depth=1)), ("vq", replace(cowvla.smallest(), between=INSIDE))],
    ids=["vae with depth", "vq"],
)
def test_what_workers_encode_is_what_the_learner_encodes_with_all_fields_side_by_side(world, codec, model):
    agent, windows, names = agent_for(codec, model), [], []
    raw = settings(world, depth=codec == "vae")
    for one in (raw, settings(raw, encode=encode_on_write(agent.config.encoder))):
        episode = played(one)
        names.append(set(episode))
        data = DataConfig(batch_size=2, window=2)
        asked = {**agent.model.needs.gathered, "between": INSIDE}
        batch = RingDataset(MemorySource([episode, episode]), data).draw().gather(**asked)
        assert batch.between.shape[:3] == (2, 2, INSIDE)
        inside = batch.between.flatten(1, 2)
        latents = agent.encoder(inside) if inside.dtype == torch.uint8 else inside.flatten(2, 4).float()
        windows.append(agent.window(batch)._asdict() | {"between": latents})
    encoded = {"latents", "between_latents"} | ({"depth_latents"} if codec == "vae" else set())
    assert {"rgb", "between"} <= names[0] and encoded <= names[1] and not {"rgb", "between"} & names[1]
    on_read, on_write = windows
    for name, values in on_read.items():
        if values is None:
            assert on_write[name] is None
        elif values.dtype == torch.int64:
            assert torch.equal(values, on_write[name]), name
        else:
            assert (values - on_write[name]).abs().max() <= 2e-3 * values.abs().max(), name  # float16 in the ring
    assert (on_read["between"][:, 0] - on_read["between"][:, 1]).abs().max() > 1e-3, "the pictures differ"


def test_the_motion_of_a_chunk_is_that_of_its_own_pictures_and_a_model_learns_from_it(episode):
    agent = agent_for("vq", replace(cowvla.smallest(), between=INSIDE))
    batch = (
        RingDataset(MemorySource([episode, episode]), DataConfig(batch_size=2, window=2))
        .draw()
        .gather(**agent.model.needs.gathered)
    )
    moved = replace(batch, between=batch.between.clone())
    moved.between[:, 1, 2] = 255 - moved.between[:, 1, 2]
    before, after = (agent.window(one).motion_BTM for one in (batch, moved))
    assert before.shape[:2] == (2, 2) and torch.equal(before[:, 0], after[:, 0]) and not torch.equal(before[:, 1], after[:, 1])
    clip = torch.cat([batch.rgb_BThw3[:, :1], batch.between[:, 0], batch.rgb_BThw3[:, 1:2]], dim=1)
    torch.testing.assert_close(before[:, 0], agent.encoder.motions_of(agent.encoder(clip), 3)[:, 0])
    losses = agent.losses(batch, torch.Generator())
    losses.total.backward()
    assert losses.parts["motion"] > 0.0 and agent.model.motion_out[0].weight.grad.abs().max() > 0.0


def test_what_nobody_carries_or_divides_is_refused_with_the_remedy(world, episode):
    leased = RingDataset(MemorySource([episode]), DataConfig(batch_size=1, window=2)).draw()
    with pytest.raises(LearnerError, match=r"1 pictures inside each chunk, and the stream carries 3: set world\.between 1"):
        leased.gather(between=1)
    bare = {name: values for name, values in episode.items() if name != "between"}
    with pytest.raises(LearnerError, match=r"carries none: set world\.between 3"):
        RingDataset(MemorySource([bare]), DataConfig(batch_size=1, window=2)).draw().gather(between=3)
    with pytest.raises(ConfigError, match="between must be 0, 1 or 3 pictures"):
        replace(world.config, between=2)
    with pytest.raises(ConfigError, match="divide a chunk of 10 actions evenly, got 3"):
        replace(world.config, chunk=10)
    with pytest.raises(ConfigError, match="a clip has five pictures, got 1"):
        replace(cowvla.smallest(), between=1)
