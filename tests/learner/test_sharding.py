"""Two processes learn what one learns from both their batches, whether they replicate the model or slice it."""

import multiprocessing
import os

import pytest
import torch
import torch.distributed
from learner_parts import GRID, SMALL, exact_model, trajectory, window

from learner.models.window import Window
from learner.training.config import Parallel
from learner.training.sharding import shard

COUNT, STEPS = 2, 3
fresh = multiprocessing.get_context("forkserver")
# What takes seconds to import is imported once, before anything runs.
fresh.set_forkserver_preload(["learner.training.module", "learner.training.sharding", "learner_parts"])


def batch(rows: slice):
    """A model, some windows of a batch of four, and the draws for them; the same in every process."""
    model = exact_model(glance=GRID.size, aim=GRID.cameras, told_place=True).train()
    whole = window(batch=4)
    draws = model.draw(whole, torch.Generator().manual_seed(0))
    return (
        model,
        Window(*(None if x is None else x[rows] for x in whole)),
        draws._replace(**{name: x[rows] for name, x in draws._asdict().items() if isinstance(x, torch.Tensor)}),
    )


def learn(model, losses, w, draws) -> list[float]:
    """Losses of a few steps of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    valid, mask = torch.ones(len(w.actions_BTKA), 4, dtype=torch.bool), torch.ones(len(w.actions_BTKA), 30, dtype=torch.bool)
    found = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = losses(w, draws, GRID, valid_BT=valid, imitate_BT=valid, action_mask_BA=mask).total
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        found.append(total.item())
    return found


def begin(rank: int, folder) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(COUNT), "RANK": str(rank)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=COUNT)


class Called(torch.nn.Module):
    """What DDP wraps: its forward is the losses."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *inputs, **named):
        return self.model.losses(*inputs, **named)


def one_of_two(rank: int, folder, parallel: Parallel, answers) -> None:
    begin(rank, folder)
    model, w, draws = batch(slice(2 * rank, 2 * rank + 2))
    if parallel is Parallel.FSDP:
        shard(model, torch.distributed.init_device_mesh("cpu", (COUNT,)))
        local = sum(p.to_local().numel() for p in model.parameters())
        assert local < 0.6 * sum(p.numel() for p in model.parameters()), "each holds a slice"
        found = learn(model, model.losses, w, draws)
        weights = {name: p.full_tensor().detach() for name, p in model.named_parameters()}
    else:
        replica = torch.nn.parallel.DistributedDataParallel(Called(model))
        found = learn(model, replica, w, draws)
        weights = {name: p.detach() for name, p in model.named_parameters()}
    if rank == 0:
        torch.save(weights, folder / "weights")
    answers.put((rank, found))
    torch.distributed.destroy_process_group()


def together(target, folder, *more):
    """What two processes answer."""
    answers = fresh.Queue()
    processes = [fresh.Process(target=target, args=(rank, folder, *more, answers), daemon=True) for rank in range(COUNT)]
    for process in processes:
        process.start()
    found = sorted(answers.get(timeout=200) for _ in processes)
    for process in processes:
        process.join(200)
        assert process.exitcode == 0
    return [answer for _, *answer in found]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", list(Parallel))
def test_two_processes_have_the_losses_and_weights_of_one(parallel, tmp_path):
    model, w, draws = batch(slice(0, 4))
    expected = learn(model, model.losses, w, draws)
    (one,), (other,) = together(one_of_two, tmp_path, parallel)
    assert [(a + b) / 2 for a, b in zip(one, other, strict=True)] == pytest.approx(expected, rel=1e-9)
    weights = torch.load(tmp_path / "weights", weights_only=True)
    for name, p in model.named_parameters():
        torch.testing.assert_close(weights[name], p.detach(), rtol=1e-7, atol=1e-9)


def fit_a_slice(rank: int, folder, steps: int, resume: bool, answers) -> None:
    """A whole training of a sliced model by Lightning, with its checkpoint."""
    from learner.data.config import DataConfig
    from learner.data.dataset import MemorySource, RingDataset
    from learner.data.ranks import Ranks
    from learner.training.config import LearnerConfig
    from learner.training.module import AgentModule, RingDataModule, fit

    begin(rank, folder)
    ranks = Ranks(timeout_s=200.0)
    config = LearnerConfig(
        agent=SMALL, data=DataConfig(batch_size=2, window=2), measure_batches=1, threads=1, parallel=Parallel.FSDP
    )
    dataset = RingDataset(MemorySource([trajectory(number) for number in range(6)]), config.data, ranks=ranks)
    losses: list[float] = []
    module = AgentModule(config)
    fit(
        module,
        RingDataModule(dataset),
        steps=steps,
        clip=1.0,
        checkpoint=folder / "last.ckpt",
        checkpoint_every=100,
        resume=resume,
        on_step=lambda step, values: losses.append(values["loss"]) or False,
        ranks=ranks,
    )
    answers.put((rank, losses))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sliced_training_leaves_a_whole_checkpoint_and_goes_on_from_it(tmp_path):
    from learner.inference.policy_file import load_agent

    for folder, steps, resume in (("a", 3, False), ("a", 5, True)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "meeting").unlink(missing_ok=True)
        (losses,), _ = together(fit_a_slice, tmp_path / folder, steps, resume)
        assert len(losses) == (2 if resume else 3) and all(0 < loss < 100 for loss in losses)
        saved = torch.load(tmp_path / folder / "last.ckpt", weights_only=True)
        assert saved["global_step"] == steps and all(type(w) is torch.Tensor for w in saved["state_dict"].values())
        agent = load_agent(tmp_path / folder / "last.ckpt")
        assert agent.normalizer.is_fitted
        assert saved["average"].keys() == {name for name, p in agent.named_parameters() if p.requires_grad}
