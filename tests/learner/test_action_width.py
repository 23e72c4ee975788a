"""An action has as many channels as the stream's trajectories say: a robot of somebody else's is learned from and played."""

from dataclasses import replace

import numpy as np
import pytest

from embodichain.errors import ConfigError, LearnerError
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, Segment, camera_spec, write_text
from learner.backbone.config import TextConfig
from learner.codecs.config import EncoderConfig
from learner.data.config import DataConfig
from learner.data.dataset import RingDataset
from learner.inference.policy import Policy
from learner.inference.policy_file import load_agent
from learner.models.config import AgentConfig, NormalizerConfig
from learner.models.families import FAMILIES
from learner.training.config import LearnerConfig, OptimizerConfig
from learner.training.module import AgentModule, RingDataModule, fit

WIDTH, HORIZON, SIDE = 9, 6, 32
SPEC = camera_spec(cameras=1, height=SIDE, width=SIDE, horizon=HORIZON, action_dim=WIDTH)
PLAIN = NormalizerConfig(relative_joints=False, relative_positions=False)
pytestmark = pytest.mark.filterwarnings("ignore")


def agent(family: str, *, width: int = WIDTH, normalizer: NormalizerConfig = PLAIN) -> AgentConfig:
    return AgentConfig(
        encoder=EncoderConfig(dim=24, layers=2, heads=2),
        text=TextConfig(dim=16, max_words=6, buckets=64),
        normalizer=normalizer,
        model=replace(FAMILIES.get(family).smallest(), action_dim=width),
    )


def fill(out, number: int) -> None:
    rng = np.random.default_rng(number)
    out["rgb"][...] = rng.integers(0, 255, out["rgb"].shape)
    out["proprio"][...] = rng.normal(size=out["proprio"].shape)
    out["action"][...] = out["proprio"][:-1, None] + 0.2 * rng.normal(size=(HORIZON, 1, WIDTH))
    out["action_mask"][:] = 1
    out["segment"][:] = Segment.NOMINAL
    out["num_chunks"][...] = HORIZON
    out["trajectory_id"][...] = number
    write_text(out["instruction"], b"open the drawer")
    write_text(out["info"], b"")


@pytest.fixture
def ring(no_shared_memory_left):
    with Ring.create(RingSpec(trajectory=SPEC, num_slots=8, max_reads=9)) as made:
        for number in range(8):
            with made.reserve() as slot:
                fill(slot, number)
        yield made


def train(config: AgentConfig, ring: Ring, path) -> list[float]:
    losses: list[float] = []
    settings = LearnerConfig(
        agent=config,
        data=DataConfig(batch_size=4, window=2),
        optimizer=OptimizerConfig(rate=1e-3, warmup_steps=1, total_steps=9),
        measure_batches=2,
        threads=1,
    )

    def keep(step: int, values) -> bool:
        losses.append(values["loss"])
        return False

    dataset = RingDataset(ring, settings.data)
    fit(
        AgentModule(settings),
        RingDataModule(dataset),
        steps=3,
        clip=1.0,
        checkpoint=path,
        checkpoint_every=9,
        resume=False,
        on_step=keep,
    )
    return losses


@pytest.mark.parametrize("family", ["clwm", "lingbot_va", "x_wam"])
def test_a_family_learns_from_and_plays_a_robot_of_nine_channels(family, ring, tmp_path):
    losses = train(agent(family), ring, tmp_path / "last.ckpt")
    assert len(losses) == 3 and np.isfinite(losses).all() and len(set(losses)) == 3
    loaded = load_agent(tmp_path / "last.ckpt")
    assert loaded.config.model.action_dim == WIDTH
    assert loaded.normalizer.action_mask.shape == (WIDTH,)
    policy = Policy(loaded, seed=0)
    policy.begin("open the drawer")
    with ring.sample(1, rng=np.random.default_rng(0)) as lease:
        rgb, proprio = lease[0]["rgb"].copy(), lease[0]["proprio"].copy()
    chunk = policy.act(rgb[0], proprio[0])
    assert chunk.shape == (loaded.config.model.chunk, WIDTH) and np.isfinite(chunk).all()
    assert policy.act(rgb[1], proprio[1], chunk[:5]).shape == chunk.shape
    with pytest.raises(LearnerError, match=r"proprio \[9\]"):
        policy.act(rgb[2], np.zeros(30, np.float32))


def test_a_model_of_another_width_is_refused_by_name_and_so_are_channels_that_are_not_there(ring, tmp_path):
    with pytest.raises(ConfigError, match=r"9 channels, one of the model 30: set learner\.agent\.model\.action_dim"):
        train(agent("clwm", width=30), ring, tmp_path / "last.ckpt")
    with pytest.raises(ConfigError, match=r"has 9 channels: set normalizer\.relative_positions"):
        train(agent("clwm", normalizer=NormalizerConfig()), ring, tmp_path / "last.ckpt")
