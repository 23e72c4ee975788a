import os
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from learner_parts import SMALL, fill, fitted, shaken, spec, trajectory

from embodichain.errors import LearnerError
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.policy_file import load_agent
from learner.training.checkpoint_file import saved_stream_state
from learner.training.config import LearnerConfig, OptimizerConfig
from learner.training.module import AgentModule, RingDataModule, fit

CONFIG = LearnerConfig(
    agent=SMALL,
    data=DataConfig(batch_size=3, window=2),
    optimizer=OptimizerConfig(rate=3e-3, warmup_steps=2, total_steps=200),
    measure_batches=2,
    threads=1,
)
pytestmark = pytest.mark.filterwarnings("ignore")


def train(source, path, steps: int, *, config=CONFIG, resume=False, every=100, on_step=None, **hooks):
    """Losses of each step, the module, the dataset and what `fit` returned."""
    dataset = RingDataset(source, config.data, **hooks)
    module, losses = AgentModule(config), []

    def note(step, values):
        losses.append(values["loss"])
        return bool(on_step and on_step(step, values))

    data = RingDataModule(dataset)
    ended = fit(module, data, steps=steps, clip=1.0, checkpoint=path, checkpoint_every=every, resume=resume, on_step=note)
    return losses, module, dataset, ended


def test_two_seeded_steps_give_the_same_losses_twice(trajectories, tmp_path):
    first = train(MemorySource(trajectories), tmp_path / "a.ckpt", 2)[0]
    assert first == train(MemorySource(trajectories), tmp_path / "b.ckpt", 2)[0]
    other = replace(CONFIG, agent=replace(SMALL, seed=1))
    assert first != train(MemorySource(trajectories), tmp_path / "c.ckpt", 2, config=other)[0]


def test_a_resumed_run_continues_bit_for_bit(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    whole, module, _, _ = train(MemorySource(trajectories), tmp_path / "whole.ckpt", 5)
    head, *_ = train(MemorySource(trajectories), path, 3)
    tail, resumed, dataset, ended = train(MemorySource(trajectories), path, 5, resume=True)
    assert head + tail == whole and ended == (5, 2)
    for mine, theirs in zip(resumed.agent.state_dict().values(), module.agent.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert dataset.leases == 2 + 5, "the normalizer was measured once"


def test_a_checkpoint_needs_no_room_elsewhere_and_is_on_the_disk_before_it_has_its_name(trajectories, tmp_path, monkeypatch):
    path, synced = tmp_path / "run" / "last.ckpt", []
    path.parent.mkdir()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    for name in ("TMPDIR", "TMP", "TEMP"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    train(MemorySource(trajectories), path, 2)
    assert synced == [path.with_suffix(".partial"), path.parent] and list(path.parent.iterdir()) == [path]
    assert load_agent(path).normalizer.is_fitted


def test_a_killed_run_resumes_from_its_last_checkpoint_bit_for_bit(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    whole, *_ = train(MemorySource(trajectories), tmp_path / "whole.ckpt", 5)

    def die(step, values):
        if step == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(MemorySource(trajectories), path, 5, every=2, on_step=die)
    tail, _, _, ended = train(MemorySource(trajectories), path, 5, resume=True)
    assert tail == whole[2:] and ended == (5, 3)


def test_a_stream_that_ends_is_read_empty_and_ends_the_training(tmp_path):
    path, done, samples = tmp_path / "last.ckpt", 0, 0
    for resume in (False, True):
        with Ring.create(RingSpec(trajectory=spec(), num_slots=8, max_reads=3)) as ring:
            for number in range(6):
                with ring.reserve() as slot:
                    fill(slot, number, 3)
            losses, _, dataset, ended = train(ring, path, 50, resume=resume, on_starved=lambda: None, exhausted=lambda: True)
            done, samples = done + len(losses), samples + 6 * 3
            assert losses and ended == (done, len(losses))
            assert dataset.samples == samples, "the normalizer's warm-up included"
            assert ring.stats().ready == 0


def test_stream_state_can_be_read_before_anything_is_built(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    _, _, dataset, _ = train(MemorySource(trajectories), path, 2)
    assert saved_stream_state(path) == dataset.state_dict()
    with pytest.raises(LearnerError, match="no checkpoint"):
        saved_stream_state(tmp_path / "none.ckpt")


def test_training_on_a_ring_lets_go_of_a_batch_once_it_is_gathered_and_fetches_none_ahead(tmp_path):
    seen: list[tuple[int, int]] = []
    with Ring.create(RingSpec(trajectory=spec(), num_slots=8, max_reads=5)) as ring:
        numbers = iter(range(100))

        def produce():
            with ring.reserve() as slot:
                fill(slot, next(numbers), 3)

        def look(step, values):
            seen.append((ring.stats().held, ring.stats().acquired))
            assert 0.0 <= values["wait_share"] <= 1.0
            return False

        losses, module, dataset, _ = train(ring, tmp_path / "last.ckpt", 4, on_step=look, on_starved=produce)
        batches = [CONFIG.measure_batches + step for step in range(1, 5)]
        assert seen == [(0, 3 * count) for count in batches], "nothing is held while it is learned from, and nothing fetched ahead"
    assert len(losses) == 4 and dataset.leases == CONFIG.measure_batches + 4
    assert not module.agent.encoder.training and module.agent.encoder.is_random


def test_the_gradient_of_a_streamed_batch_reaches_every_part(dataset):
    agent = fitted(SMALL, dataset)
    optimizer = torch.optim.SGD(agent.model.parameters(), lr=0.1)
    for step in range(3):  # heads start at zero and let nothing through at first
        optimizer.zero_grad()
        agent.losses(dataset.draw().gather(), torch.Generator().manual_seed(step)).total.backward()
        optimizer.step()
    still = [name for name, p in agent.model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still
    assert all(p.grad is None for p in agent.encoder.parameters())


def test_half_precision_gives_nearly_the_same_loss(dataset):
    agent, batch = fitted(SMALL, dataset), dataset.draw().gather()
    shaken(agent.model, scale=0.05)
    exact = agent.losses(batch, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        half = agent.losses(batch, torch.Generator().manual_seed(0))
    half.total.backward()
    torch.testing.assert_close(half.total.float(), exact.total, rtol=0.02, atol=0.0)


def test_a_small_model_overfits_one_batch(tmp_path):
    """With the same noise each step, the loss must fall several times below what it starts at."""
    source = MemorySource([trajectory(number, 3) for number in range(2)])
    dataset = RingDataset(source, DataConfig(batch_size=2, window=3))
    agent = fitted(SMALL, dataset)
    batch = dataset.draw().gather()
    optimizer = torch.optim.AdamW(agent.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        loss = agent.losses(batch, torch.Generator().manual_seed(0)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def test_a_loss_that_is_not_finite_names_the_trajectories_and_spares_the_checkpoint(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    train(MemorySource(trajectories), path, 1)
    before = path.read_bytes()
    with Ring.create(RingSpec(trajectory=spec(), num_slots=3)) as ring:
        for number in (75, 76, 77):
            with ring.reserve() as slot:
                fill(slot, number, 3)
                slot["action"][:] = np.nan if number == 76 else slot["action"]
        with pytest.raises(LearnerError, match=r"loss is nan .* at step 1; .* trajectories .*76 \(from chunk"):
            train(ring, path, 5, resume=True)
        assert ring.stats().held == 0
    assert path.read_bytes() == before


def test_a_gradient_that_is_not_finite_changes_no_weight(dataset, monkeypatch):
    module = AgentModule(CONFIG)
    before = {name: p.clone() for name, p in module.agent.named_parameters()}
    next(module.agent.model.parameters()).grad = torch.full_like(next(module.agent.model.parameters()), torch.inf)
    monkeypatch.setattr(AgentModule, "global_step", 4)
    with pytest.raises(LearnerError, match="gradient norm is inf at step 4"):
        module.configure_gradient_clipping(torch.optim.SGD(module.parameters(), lr=1.0), 1.0)
    assert all(torch.equal(p, before[name]) for name, p in module.agent.named_parameters())


def test_the_checkpoint_carries_the_agent_with_its_statistics(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    _, module, _, _ = train(MemorySource(trajectories), path, 2)
    agent = load_agent(path)
    assert agent.config == SMALL and agent.normalizer.is_fitted and not agent.training
    assert int(agent.memory_span) == CONFIG.data.window
    averages = module.average.state_dict()
    assert averages.keys() == {name for name, p in module.agent.named_parameters() if p.requires_grad}
    for name, theirs in module.agent.state_dict().items():
        assert torch.equal(agent.state_dict()[name], averages.get(name, theirs)), "evaluation uses the averaged weights"
    assert any(not torch.equal(average, module.agent.state_dict()[name]) for name, average in averages.items())


def test_on_step_can_stop_the_training(trajectories, tmp_path):
    _, _, _, ended = train(MemorySource(trajectories), tmp_path / "last.ckpt", 50, on_step=lambda step, values: step == 2)
    assert ended == (2, 2)


def test_the_learning_rate_warms_up_and_decays():
    config = OptimizerConfig(warmup_steps=4, total_steps=20, final_share=0.1)
    shares = [config.share(step, 10) for step in range(25)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0] and shares[4] == 1.0
    assert all(a >= b for a, b in pairwise(shares[4:]))
    assert shares[20:] == pytest.approx([0.1] * 5)
    assert [OptimizerConfig(warmup_steps=4, final_share=0.1).share(step, 20) for step in range(25)] == shares
    assert OptimizerConfig(warmup_steps=0).share(10**6, -1) == 1.0


@pytest.mark.parametrize(("steps", "every", "die"), [(6, 2, 5), (4, 4, None), (1, 1, None), (5, 2, 3)])
def test_every_checkpoint_holds_the_average_of_its_own_step(trajectories, tmp_path, steps, every, die):
    def killed(step, values):
        if step == die:
            raise ZeroDivisionError
        return False

    _, whole, _, _ = train(MemorySource(trajectories), tmp_path / "whole.ckpt", steps)
    path = tmp_path / "last.ckpt"
    if die:
        with pytest.raises(ZeroDivisionError):
            train(MemorySource(trajectories), path, steps, every=every, on_step=killed)
        train(MemorySource(trajectories), path, steps, resume=True)
    else:
        train(MemorySource(trajectories), path, steps, every=every)
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == steps
    for name, average in whole.average.state_dict().items():
        assert torch.equal(saved["average"][name], average)
    if steps == 1:
        assert all(torch.equal(saved["average"][name], saved["state_dict"][f"agent.{name}"]) for name in saved["average"])


def test_a_run_that_is_prolonged_keeps_the_rate_it_had_come_down_to(trajectories, tmp_path):
    config = replace(CONFIG, optimizer=OptimizerConfig(rate=3e-3, warmup_steps=1))
    path, rates = tmp_path / "last.ckpt", {}

    def rate_of(module):
        return module.optimizers().param_groups[0]["lr"]

    _, module, _, _ = train(MemorySource(trajectories), path, 6, config=config)
    rates["ended"] = rate_of(module)
    _, module, _, _ = train(MemorySource(trajectories), path, 12, config=config, resume=True)
    assert rate_of(module) == pytest.approx(rates["ended"], rel=1e-6) == pytest.approx(3e-3 * config.optimizer.final_share)
    assert module.horizon == 6
