"""Foresight is measured against no change and a linear map, with what a model imagines and nothing else."""

import pytest
import torch
from learner_parts import SMALL, fitted, shaken, trajectory

from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.models.clwm.config import ClwmConfig, NextFrame
from learner.models.config import AgentConfig
from learner.models.foresight import AHEAD, LinearForecast, foresee
from learner.training.config import LearnerConfig
from learner.training.module import AgentModule, RingDataModule, fit

CHANGE = AgentConfig(
    encoder=SMALL.encoder,
    text=SMALL.text,
    model=ClwmConfig(
        dim=32, layers=2, heads=2, ffn=64, memory_every=1, time_frequencies=16, next_frame=NextFrame.CHANGE, see_imagined=True
    ),
)


def source(count: int = 8) -> RingDataset:
    return RingDataset(MemorySource([trajectory(number) for number in range(count)]), DataConfig(batch_size=4, window=0))


def measured(agent, batch, linear=None, seed: int = 0):
    return foresee(agent, batch, torch.Generator().manual_seed(seed), linear or LinearForecast())


def test_an_untrained_model_that_predicts_the_change_foresees_as_well_as_a_copy_however_far_ahead():
    dataset = source()
    agent = fitted(CHANGE, dataset)
    agent.memory_span.fill_(0)
    found = measured(agent, dataset.draw().gather())
    assert [entry.ahead for entry in found] == list(AHEAD)
    for entry in found:
        assert entry.imagined == pytest.approx(entry.unchanged, rel=1e-4) and entry.unchanged > 0
        assert entry.linear is None


def test_the_truth_shows_in_no_figure_but_as_what_is_compared_with():
    """Frames after the one foreseen from change what is aimed at, not what is imagined."""
    dataset = source()
    agent = fitted(CHANGE, dataset)
    agent.memory_span.fill_(0)
    shaken(agent.model)
    batch = dataset.draw().gather()
    start = int(torch.randint(int(batch.valid_BT.sum(dim=1).max()) - AHEAD[-1] + 1, (), generator=torch.Generator().manual_seed(0)))
    seen: list[torch.Tensor] = []
    decide = agent.model.decide
    agent.model.decide = lambda *a: seen.append(decide(*a).imagined_BNC) or decide(*a)
    measured(agent, batch)
    other = batch.rgb_BThw3.clone()
    other[:, start + 1 :] = 255 - other[:, start + 1 :]
    measured(agent, type(batch)(**{name: getattr(batch, name) for name in batch.__slots__} | {"rgb_BThw3": other}))
    half = len(seen) // 2
    assert half == AHEAD[-1]
    assert all(torch.equal(a, b) for a, b in zip(seen[:half], seen[half:], strict=True))


def test_the_linear_map_is_the_best_there_is_of_pairs_within_their_episodes():
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    frames = [torch.randn(16, 6, 5, generator=generator)]
    for _ in range(6):
        frames.append(frames[-1] @ turn + 0.3)
    latents, lengths = torch.stack(frames, dim=1), torch.full((16,), 6)
    latents[0, 4:], lengths[0] = 1e3, 3  # padding after the end of an episode must not count
    linear = LinearForecast()
    assert linear.predict(latents[:, 0], 1) is None
    linear.add(latents, lengths)
    for ahead in AHEAD:
        guess = linear.predict(latents[1:, 1], ahead)
        assert guess is not None and (guess - latents[1:, 1 + ahead]).abs().max() < 0.02
    assert LinearForecast().predict(latents, 2) is None


def test_training_logs_what_is_foreseen_and_learns_the_same_with_and_without(tmp_path):
    losses, seen = [], []
    for every in (0, 2):
        config = LearnerConfig(
            agent=CHANGE, data=DataConfig(batch_size=4, window=0), measure_batches=1, threads=1, foresight_every=every, loggers=()
        )

        def note(step, values) -> bool:
            losses.append(values["loss"])
            seen.append({name for name in values if name.startswith("foresight/")})
            return False

        data = RingDataModule(source())
        fit(
            AgentModule(config),
            data,
            steps=4,
            clip=1.0,
            checkpoint=tmp_path / f"{every}.ckpt",
            checkpoint_every=100,
            resume=False,
            on_step=note,
        )
    assert losses[:4] == losses[4:]
    assert not seen[3] and {f"foresight/imagined_over_{what}_{k}" for what in ("unchanged", "linear") for k in AHEAD} <= seen[7]


def test_batches_add_up_to_one_step_with_a_noise_each(tmp_path):
    config = LearnerConfig(
        agent=CHANGE, data=DataConfig(batch_size=2, window=2), measure_batches=1, threads=1, accumulate=3, loggers=()
    )
    dataset, steps, noises = source(), [], []
    module = AgentModule(config)
    draw = module.agent.model.draw
    module.agent.model.draw = lambda window, generator: noises.append(generator.initial_seed()) or draw(window, generator)
    fit(
        module,
        RingDataModule(dataset),
        steps=2,
        clip=1.0,
        checkpoint=tmp_path / "last.ckpt",
        checkpoint_every=1,
        resume=False,
        on_step=lambda step, values: steps.append(step) or False,
    )
    assert steps == [1, 2], "told of steps, not of their parts"
    assert dataset.leases == 1 + 2 * 3 and len(set(noises)) == 6
