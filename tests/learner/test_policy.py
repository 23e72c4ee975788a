import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_parts import SMALL, fitted, shaken, trajectory
from safetensors.torch import save_file

from embodichain.errors import ConfigError, LearnerError
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import SpeculativePolicy
from learner.inference.config import SaiConfig
from learner.inference.policy import Policy
from learner.inference.policy_file import Setup, load_agent, load_setup, save_agent
from learner.models.agent import Agent
from learner.models.clwm.config import NextFrame
from learner.models.config import AgentConfig, NormalizerConfig
from learner.vision.segmenter import Segmenter, save_segmenter


@pytest.fixture
def agent(dataset):
    made = fitted(SMALL, dataset)
    shaken(made.model)
    return made


def play(policy: Policy, frames: int, number: int = 0, instruction: str = "turn the switch on"):
    episode = trajectory(number)
    policy.begin(instruction)
    return np.stack([policy.act(episode["rgb"][t % 6], episode["proprio"][t % 6]) for t in range(frames)])


def test_a_chunk_is_in_physical_units_and_absent_channels_are_zero(agent):
    chunks = play(Policy(agent), 2)
    assert chunks.shape == (2, 16, 30) and chunks.dtype == np.float32
    assert (chunks[..., [20, 27]] == 0).all() and np.isfinite(chunks).all()
    low, high = agent.normalizer.action_range.numpy()
    reach = agent.config.normalizer.clip * (high - low)
    joints = slice(14, 20)
    measured = np.stack([trajectory(0)["proprio"][t] for t in range(2)])
    assert (np.abs(chunks - measured[:, None])[..., joints] <= reach[joints]).all(), (
        "joint targets are relative to the frame's joints"
    )


def test_the_same_seed_and_observations_give_the_same_chunks(agent):
    assert np.array_equal(play(Policy(agent, seed=1), 3), play(Policy(agent, seed=1), 3))
    assert not np.array_equal(play(Policy(agent, seed=1), 3), play(Policy(agent, seed=2), 3))


def test_at_temperature_zero_the_seed_decides_no_chunk_of_a_model_without_memory(dataset):
    model = replace(SMALL.model, memory_every=0, action_temperature=0.0)
    cold = fitted(replace(SMALL, model=model), dataset)
    shaken(cold.model)
    first, second = (play(Policy(cold, seed=seed), 1) for seed in (1, 2))
    assert np.array_equal(first, second), "without a memory chunks do not see the frame that was imagined"
    warm = fitted(replace(SMALL, model=replace(model, action_temperature=1.0)), dataset)
    warm.load_state_dict(cold.state_dict())
    assert not np.array_equal(play(Policy(warm, seed=1), 1), play(Policy(warm, seed=2), 1))


def test_a_policy_of_several_samples_plays_their_mean_and_speculates_as_it_acts(dataset):
    model = replace(SMALL.model, video_steps=2, action_steps=2)
    one = fitted(replace(SMALL, model=model), dataset)
    shaken(one.model)
    many = fitted(replace(SMALL, model=replace(model, action_samples=16)), dataset)
    many.load_state_dict(one.state_dict())
    single = np.stack([play(Policy(one, seed=seed), 1) for seed in range(60)])
    means = np.stack([play(Policy(many, seed=seed), 1) for seed in range(20)])
    loose = single.std(axis=0) > 1e-3
    assert loose.any()
    assert np.median(means.std(axis=0)[loose] / single.std(axis=0)[loose]) == pytest.approx(0.25, rel=0.3)
    error = np.abs(means.mean(axis=0) - single.mean(axis=0))[loose] / single.std(axis=0)[loose]
    assert np.median(error) < 0.2
    synchronous = play(Policy(many), 2)
    with closing(SpeculativePolicy(many, SaiConfig(s_mid=0.0))) as speculative:
        assert np.array_equal(play(speculative, 2), synchronous)


def test_begin_forgets_the_last_episode(agent):
    used = Policy(agent)
    play(used, 3, number=5, instruction="place the mouse")
    assert np.array_equal(play(used, 2), play(Policy(agent), 2))


def test_two_policies_of_one_agent_share_no_memory(agent):
    alone = play(Policy(agent), 3)
    episode, other = trajectory(0), trajectory(9)
    one, two = Policy(agent), Policy(agent, seed=5)
    one.begin("turn the switch on")
    two.begin("place the mouse")
    together = []
    for t in range(3):
        together.append(one.act(episode["rgb"][t], episode["proprio"][t]))
        two.act(other["rgb"][t], other["proprio"][t])
    assert np.array_equal(np.stack(together), alone)


def test_memory_starts_afresh_after_its_span_and_keeps_its_size(agent):
    policy = Policy(agent)
    steps, sizes = [], set()
    policy.begin("turn the switch on")
    for t in range(7):
        policy.act(trajectory(0)["rgb"][t % 6], trajectory(0)["proprio"][t % 6])
        steps.append(policy.memory.steps)
        sizes.add(policy.memory.size_bytes)
    assert steps == [1, 2, 3, 4, 1, 2, 3] and len(sizes) == 1


@pytest.mark.parametrize("changes", [{}, {"next_frame": NextFrame.CHANGE, "see_imagined": True}], ids=str)
def test_memory_trained_along_whole_episodes_lives_as_long_and_is_what_training_would_hold(dataset, changes):
    """Through the public policy: its memory after T frames is that of one parallel scan over them, and nothing restarts it."""
    agent = fitted(replace(SMALL, model=replace(SMALL.model, history_noise_prob=0.0, **changes)), dataset)
    agent.memory_span.fill_(0)
    shaken(agent.model)
    policy, episode, chunks = Policy(agent), trajectory(0), []
    policy.begin("place the mouse")
    for t in range(7):
        executed = episode["action"][t - 1] if t else None
        policy.act(episode["rgb"][t], episode["proprio"][t], executed)
    assert policy.memory.steps == 7
    whole = RingDataset(MemorySource([episode]), DataConfig(batch_size=1, window=0)).draw().gather()
    window = agent.window(whole)
    with torch.no_grad():
        _, _, scanned = agent.model.velocities(
            window, agent.model.draw(window, torch.Generator().manual_seed(0)), agent.grid(whole.rgb_BThw3)
        )
    for mine, theirs in zip(policy.memory.weights, scanned.weights, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for first in (0, 1):  # what was seen first still matters
        policy.begin("place the mouse")
        for t in range(7):
            policy.act(trajectory(first if t == 0 else 0)["rgb"][t], episode["proprio"][t], episode["action"][t - 1] if t else None)
        chunks.append(policy.memory.weights[0].w1)
    assert not torch.equal(*chunks)


@pytest.fixture
def aiming(dataset, tmp_path):
    """An agent that aims at what a random segmenter calls objects."""
    save_segmenter(Segmenter(3, seed=2), tmp_path / "segmenter")
    encoder = replace(SMALL.encoder, segmenter=str(tmp_path / "segmenter"))
    model = replace(SMALL.model, memory_every=0, aim=2)
    made = fitted(replace(SMALL, encoder=encoder, model=model, normalizer=NormalizerConfig(cameras=2)), dataset)
    shaken(made.model)
    return made


def test_an_aiming_policy_acts_on_its_first_frame_as_long_as_the_episode_lasts(aiming):
    """Beyond the span of its memory too: four frames here."""
    episode, other = trajectory(0), trajectory(1)
    chunks = []
    for first in (episode, other, episode):
        policy = Policy(aiming)
        policy.begin("turn the switch on")
        policy.act(first["rgb"][0], episode["proprio"][0])
        for t in range(1, 6):
            last = policy.act(episode["rgb"][t], episode["proprio"][t], episode["action"][t - 1])
        chunks.append(last)
        assert policy.memory.steps == 2
    assert np.array_equal(chunks[0], chunks[2])
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-4


def test_an_aiming_agent_trains_on_openings_and_says_what_it_lacks(aiming, dataset):
    leased = dataset.draw()
    batch = leased.gather(opening=True)
    losses = aiming.losses(batch, torch.Generator().manual_seed(0))
    losses.total.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in aiming.model.aim.parameters())
    moved = replace(batch, opening=batch.opening.flip(0))
    assert aiming.losses(moved, torch.Generator().manual_seed(0)).parts["action"] != losses.parts["action"]
    with pytest.raises(LearnerError, match="opening=True"):
        aiming.losses(leased.gather(), torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=r"set encoder\.segmenter"):
        Agent(replace(SMALL, model=replace(SMALL.model, aim=2)))


def test_an_aiming_policy_is_saved_whole_and_speculates_as_it_acts(aiming, tmp_path):
    save_agent(aiming, tmp_path / "policy.safetensors", Setup())
    acted = play(Policy(aiming), 6)
    assert np.array_equal(play(Policy(load_agent(tmp_path / "policy.safetensors")), 6), acted)
    with closing(SpeculativePolicy(aiming, SaiConfig(s_mid=0.0))) as speculative:
        assert np.array_equal(play(speculative, 6), acted)


def test_the_imagined_frame_is_kept_for_who_wants_to_look(agent):
    policy = Policy(agent)
    play(policy, 1)
    assert policy.imagined is not None and policy.imagined.shape == (8, agent.encoder.latent_dim)
    policy.begin("again")
    assert policy.imagined is None


def test_observations_of_another_shape_or_type_are_refused(agent):
    policy, episode = Policy(agent), trajectory(0)
    with pytest.raises(LearnerError, match="call begin"):
        policy.act(episode["rgb"][0], episode["proprio"][0])
    policy.begin("turn the switch on")
    for rgb, proprio in (
        (episode["rgb"][0].astype(np.float32), episode["proprio"][0]),
        (episode["rgb"][0][0], episode["proprio"][0]),
        (episode["rgb"][0], episode["proprio"][0][:7]),
    ):
        with pytest.raises(LearnerError, match="an observation is"):
            policy.act(rgb, proprio)


def test_an_agent_that_was_never_measured_is_refused():
    with pytest.raises(LearnerError, match="never measured"):
        Policy(Agent(SMALL))


def test_configurations_survive_json():
    config = AgentConfig()
    assert AgentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert AgentConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL


def test_checkpoints_that_do_not_fit_say_what_is_wrong(agent, tmp_path):
    path = tmp_path / "last.ckpt"
    with pytest.raises(LearnerError, match="no checkpoint"):
        load_agent(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(LearnerError, match="no agent that this version reads"):
        load_agent(path)
    weights = {f"agent.{name}": value for name, value in agent.state_dict().items()}
    whole = {"agent_config": json.dumps(SMALL.to_dict()), "state_dict": weights}
    torch.save(whole, path)
    assert load_agent(path).config == SMALL
    missing = dict(weights)
    missing.pop("agent.model.view")
    torch.save({**whole, "state_dict": missing}, path)
    with pytest.raises(LearnerError, match=r"missing model\.view"):
        load_agent(path)
    torch.save({"agent_config": '{"encoder": 3}', "state_dict": weights}, path)
    with pytest.raises(LearnerError, match="no agent that this version reads"):
        load_agent(path)


def test_a_saved_agent_acts_bit_for_bit_as_before_and_knows_what_it_was_trained_on(agent, tmp_path):
    path = tmp_path / "policy.safetensors"
    setup = Setup(robot="dual_piper", width=32, height=48, tasks=("turn_switch",))
    save_agent(agent, path, setup)
    assert load_setup(path) == setup
    assert np.array_equal(play(Policy(load_agent(path)), 3), play(Policy(agent), 3))
    assert [p.name for p in tmp_path.iterdir()] == ["policy.safetensors"]


def test_safetensors_of_others_or_cut_short_are_refused(agent, tmp_path):
    path = tmp_path / "policy.safetensors"
    with pytest.raises(LearnerError, match="no checkpoint"):
        load_setup(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(LearnerError, match="of other software"):
        load_agent(path)
    save_agent(agent, path, Setup())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(LearnerError, match="no safetensors file"):
        load_agent(path)
    save_file(
        {n: w for n, w in agent.state_dict().items() if "view" not in n},
        path,
        {"format": "embodichain-agent-1", "agent_config": json.dumps(SMALL.to_dict())},
    )
    with pytest.raises(LearnerError, match=r"missing model\.view"):
        load_agent(path)
    with pytest.raises(LearnerError, match="trained on"):
        load_setup(path)
