"""A training that starts from a policy: its first loss is that of the policy, its schedule is new, its descent is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner_parts import SMALL

from embodichain.errors import ConfigError
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.policy_file import Setup, load_agent, save_agent
from learner.models.agent import Agent
from learner.runs.starts import begin_from
from learner.training.config import LearnerConfig, OptimizerConfig
from learner.training.module import AgentModule, RingDataModule, fit

CONFIG = LearnerConfig(
    agent=SMALL,
    data=DataConfig(batch_size=3, window=2),
    optimizer=OptimizerConfig(rate=3e-3, warmup_steps=2),
    measure_batches=2,
    threads=1,
    foresight_every=0,
)
pytestmark = pytest.mark.filterwarnings("ignore")


def train(trajectories, checkpoint: Path, config: LearnerConfig = CONFIG, *, resume: bool = False, steps: int = 3) -> list[dict]:
    """What was logged at each step of a training that starts from a policy, if `config` names one."""
    module, seen = AgentModule(config), []
    if config.start and not resume:
        begin_from(module.agent, config.start)

    def note(step, values) -> bool:
        seen.append({"step": step, **values})
        return False

    data = RingDataModule(RingDataset(MemorySource(trajectories), config.data))
    fit(module, data, steps=steps, clip=1.0, checkpoint=checkpoint, checkpoint_every=100, resume=resume, on_step=note)
    return seen


@pytest.fixture(scope="module")
def policy(trajectories, tmp_path_factory) -> Path:
    """The policy of a short training, as a file."""
    folder = tmp_path_factory.mktemp("policy")
    train(trajectories, folder / "last.ckpt")
    save_agent(load_agent(folder / "last.ckpt"), folder / "policy.safetensors", Setup())
    return folder / "policy.safetensors"


def test_its_first_loss_is_that_of_the_policy_and_its_steps_begin_at_one(trajectories, policy, tmp_path):
    config = replace(CONFIG, start=str(policy))
    first, *_ = train(trajectories, tmp_path / "last.ckpt", config)
    batch = RingDataset(MemorySource(trajectories), CONFIG.data).draw().gather()  # the first: nothing is measured again
    noise = torch.Generator().manual_seed(SMALL.seed * 1_000_003)
    expected = load_agent(policy).train().losses(batch, noise)
    assert float(first["loss"]) == float(expected.total) and first["step"] == 1
    fresh, *_ = train(trajectories, tmp_path / "fresh.ckpt")
    assert float(fresh["loss"]) != float(first["loss"])


def test_the_normaliser_is_that_of_the_policy_even_on_another_stream(trajectories, policy, tmp_path):
    train(trajectories[6:], tmp_path / "last.ckpt", replace(CONFIG, start=str(policy)))
    old, new = load_agent(policy).normalizer.state_dict(), load_agent(tmp_path / "last.ckpt").normalizer.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_descent_is_kept_through_checkpoints_files_and_resumes(trajectories, policy, tmp_path):
    config = replace(CONFIG, start=str(policy))
    train(trajectories, tmp_path / "last.ckpt", config)
    train(trajectories, tmp_path / "last.ckpt", config, resume=True, steps=4)
    child = tmp_path / "child.safetensors"
    save_agent(load_agent(tmp_path / "last.ckpt"), child, Setup())
    train(trajectories, tmp_path / "next.ckpt", replace(CONFIG, start=str(child)))
    descent = load_agent(tmp_path / "next.ckpt").ancestry
    assert [ancestor["policy"] for ancestor in descent] == [str(policy), str(child)]
    assert len({ancestor["sha256"] for ancestor in descent}) == 2 and not load_agent(policy).ancestry


def test_the_memory_holds_as_many_frames_as_the_new_training_shows_it(policy):
    module = AgentModule(replace(CONFIG, data=replace(CONFIG.data, window=4)))
    begin_from(module.agent, policy)
    assert int(module.agent.memory_span) == 4 and int(load_agent(policy).memory_span) == 2


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        (replace(SMALL, model=replace(SMALL.model, dim=64)), "weight: .* instead of "),
        (replace(SMALL, model=replace(SMALL.model, history_noise_told=True)), "history_noise_told: False instead of True"),
        (replace(SMALL, encoder=replace(SMALL.encoder, source="builtin")), "encoder"),
        (
            replace(SMALL, normalizer=replace(SMALL.normalizer, relative_joints=False)),
            "normalizer: ",
        ),
    ],
)
def test_what_does_not_fit_is_one_error_that_names_it(policy, agent, told):
    with pytest.raises(ConfigError, match=f"cannot start from .*{told}.*Give the settings"):
        begin_from(Agent(agent), policy)


def test_a_file_in_float16_and_other_noise_in_training_are_no_mismatch(policy, tmp_path):
    half = tmp_path / "half.safetensors"
    save_agent(load_agent(policy), half, Setup(), half=True)
    begin_from(Agent(replace(SMALL, seed=7, model=replace(SMALL.model, history_noise_prob=0.1, action_weight=3.0))), half)


def test_a_training_begins_from_one_thing_alone(policy):
    with pytest.raises(ConfigError, match="leave one out"):
        replace(CONFIG, start=str(policy), backbone="wan")
    assert json.dumps(load_agent(policy).ancestry) == "[]"
