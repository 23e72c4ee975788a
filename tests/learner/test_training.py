"""What a training leaves behind: averaged weights, curves, and checkpoints that go on bit for bit or say why they cannot."""

import csv
import resource
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from learner_parts import SMALL
from torch import nn

from embodichain.errors import ConfigError, LearnerError, StreamEnded
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.policy_file import load_agent
from learner.training.checkpoint_file import saved_stream_state
from learner.training.config import AverageConfig, LearnerConfig, Matrices, OptimizerConfig, Parallel, Precision, Schedule
from learner.training.module import AgentModule, RingDataModule, fit, make_logger
from learner.training.muon import Muon
from learner.training.optimizer import WeightAverage, adamw, make_optimizer

CONFIG = LearnerConfig(
    agent=SMALL,
    data=DataConfig(batch_size=3, window=2),
    optimizer=OptimizerConfig(rate=3e-3, warmup_steps=2, total_steps=6),
    measure_batches=2,
    threads=1,
)
pytestmark = pytest.mark.filterwarnings("ignore")


def train(trajectories, path, steps, *, config=CONFIG, resume=False, logs=None):
    """What was logged at each step, and the module."""
    module, seen = AgentModule(config), []

    def note(step, values) -> bool:
        seen.append(dict(values))
        return False

    data = RingDataModule(RingDataset(MemorySource(trajectories), config.data))
    fit(module, data, steps=steps, clip=1.0, checkpoint=path, checkpoint_every=100, resume=resume, on_step=note, logs=logs)
    return seen, module


def test_three_steps_and_three_more_are_six_bit_for_bit(trajectories, tmp_path):
    whole, module = train(trajectories, tmp_path / "whole.ckpt", 6)
    head, _ = train(trajectories, tmp_path / "last.ckpt", 3)
    tail, resumed = train(trajectories, tmp_path / "last.ckpt", 6, resume=True)
    for name in ("loss", "loss/video", "loss/action", "gradient_norm"):
        assert [values[name] for values in head + tail] == [values[name] for values in whole]
    for mine, theirs in (
        (resumed.agent.state_dict(), module.agent.state_dict()),
        (resumed.average.state_dict(), module.average.state_dict()),
    ):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    one, other = (
        torch.load(tmp_path / name, weights_only=True)["optimizer_states"][0]["state"] for name in ("whole.ckpt", "last.ckpt")
    )
    assert all(torch.equal(one[i][name], other[i][name]) for i in one for name in one[i])


def test_curves_are_written_for_people_and_for_programs(trajectories, tmp_path):
    train(trajectories, tmp_path / "last.ckpt", 6, logs=tmp_path / "logs")
    with (tmp_path / "logs/csv/from_step_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(6))
    for name in ("loss", "loss/video", "loss/action", "gradient_norm", "samples_per_s", "experience/new_pairs", "experience/reads"):
        assert all(float(row[name]) > 0 for row in rows), name
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs/tensorboard/from_step_0")).Reload()
    assert [event.value for event in events.Scalars("loss/video")] == pytest.approx([float(row["loss/video"]) for row in rows])
    train(trajectories, tmp_path / "last.ckpt", 8, resume=True, logs=tmp_path / "logs")
    assert (tmp_path / "logs/csv/from_step_6/metrics.csv").exists() and (tmp_path / "logs/csv/from_step_0/metrics.csv").exists()


def test_a_logger_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match="unknown logger 'paper'; available: csv, mlflow"):
        replace(CONFIG, loggers=("paper",))
    for name in ("wandb", "mlflow"):
        try:
            __import__(name)
        except ModuleNotFoundError:
            with pytest.raises(ConfigError, match=f"pip install {name}"):
                make_logger(name, tmp_path, 0)


def test_each_iteration_accounts_for_what_it_was_fed(trajectories, tmp_path):
    seen, _ = train(trajectories, tmp_path / "last.ckpt", 6)
    total = 0.0
    for values in seen:
        total += values["experience/new_pairs"]
        assert values["experience/total_pairs"] == total <= 6 * 3 * 2 * 16
        assert values["experience/new_pairs_per_s"] > 0 or values["experience/new_pairs"] == 0
        assert 0.0 <= values["wait_share"] <= 1.0 and values["samples_per_s"] > 0
        assert "mfu" not in values, "no figure without a device whose peak is known"
    through, _ = train(trajectories, tmp_path / "through.ckpt", 9)
    tail, _ = train(trajectories, tmp_path / "last.ckpt", 9, resume=True)
    assert [step["experience/total_pairs"] for step in tail] == [step["experience/total_pairs"] for step in through[6:]], (
        "a resumed run takes no pair for new that was read before"
    )
    assert tail[0]["experience/new_pairs"] < through[0]["experience/new_pairs"]


def test_what_was_read_of_a_step_when_the_stream_ended_is_learned_from(trajectories, tmp_path):
    """Of seven batches, three a step, the seventh alone makes the last step: as a step of one batch would."""

    class Ending(RingDataset):
        def draw(self, *, wait: bool = True):
            if self.leases == 7 + CONFIG.measure_batches:
                raise StreamEnded("seven batches")
            return super().draw(wait=wait)

    def trained(config: LearnerConfig, steps: int) -> AgentModule:
        module = AgentModule(config)
        data = RingDataModule(Ending(MemorySource(trajectories), config.data))
        made = fit(
            module, data, steps=steps, clip=1.0, checkpoint=tmp_path / "ending.ckpt", checkpoint_every=100, resume=False,
            on_step=lambda step, values: seen.append(step) or False,
        )  # fmt: skip
        assert made == (len(seen), len(seen))
        return module

    seen: list[int] = []
    threes = trained(replace(CONFIG, accumulate=3), 100)
    assert seen == [1, 2, 3]
    assert torch.load(tmp_path / "ending.ckpt", weights_only=True)["global_step"] == 3
    seen = []
    two = trained(replace(CONFIG, accumulate=3), 2)
    moved = [(a - b).abs().max() for a, b in zip(threes.agent.parameters(), two.agent.parameters(), strict=True) if a.requires_grad]
    assert max(moved) > 0, "the last batch moved weights"


def test_a_checkpoint_for_which_there_is_no_room_is_one_error_and_leaves_the_one_before(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    train(trajectories, path, 1)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(LearnerError, match=r"cannot write the checkpoint .*last\.ckpt.*free some space"):
            train(trajectories, path, 3, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_of_another_model_lists_what_does_not_fit(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    train(trajectories, path, 1)
    before = path.read_bytes()
    wider = replace(CONFIG, agent=replace(SMALL, model=replace(SMALL.model, ffn=96)))
    with pytest.raises(
        LearnerError, match=r"does not fit this configuration: .*blocks\.0\.contract\.weight: \[32, 64\] instead of"
    ):
        train(trajectories, path, 2, config=wider, resume=True)
    deeper = replace(CONFIG, agent=replace(SMALL, model=replace(SMALL.model, layers=3)))
    with pytest.raises(LearnerError, match=r"missing agent\.model\.blocks\.2\."):
        train(trajectories, path, 2, config=deeper, resume=True)
    assert path.read_bytes() == before
    torch.save({"some": "thing"}, path)
    with pytest.raises(LearnerError, match="no training checkpoint that this version reads"):
        train(trajectories, path, 2, resume=True)
    torch.save([1], path)
    with pytest.raises(LearnerError, match="no training checkpoint that this version reads"):
        saved_stream_state(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(LearnerError, match="no training checkpoint that this version reads"):
        train(trajectories, path, 2, resume=True)


def test_the_average_follows_the_weights_ever_more_slowly():
    layer = torch.nn.Linear(1, 1, bias=False)
    average, exact, kept = WeightAverage(AverageConfig(decay=0.9), layer), 0.0, []
    for step in range(1, 200):
        with torch.no_grad():
            layer.weight.fill_(float(step))
        average.follow(layer, step)
        keep = min(0.9, (1 + step) / (10 + step))
        exact = float(step) if step == 1 else keep * exact + (1 - keep) * step
        kept.append(keep)
        assert average.state_dict()["weight"].item() == pytest.approx(exact, rel=1e-5)
    assert kept[0] < 0.2 and kept[-1] == 0.9
    assert exact == pytest.approx(199 - 9, rel=0.01), "behind by its horizon"


def test_without_an_average_the_weights_themselves_are_used(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"
    _, module = train(trajectories, path, 2, config=replace(CONFIG, average=AverageConfig(decay=0.0)))
    agent = load_agent(path)
    assert all(torch.equal(weight, agent.state_dict()[name]) for name, weight in module.agent.state_dict().items())
    with pytest.raises(ConfigError, match=r"average\.decay"):
        AverageConfig(decay=1.0)


def test_schedules_and_the_rate_of_memories():
    constant = OptimizerConfig(schedule=Schedule.CONSTANT, warmup_steps=4, total_steps=20)
    assert [constant.share(step, 10) for step in (0, 3, 4, 19, 500)] == [0.25, 1.0, 1.0, 1.0, 1.0]
    module = AgentModule(CONFIG).agent
    groups = adamw(OptimizerConfig(rate=1e-4, memory_rate=10.0), module).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert rates.keys() == {id(p) for p in trained.values()}
    assert all(rates[id(p)] == pytest.approx(1e-3 if "memories." in name else 1e-4) for name, p in trained.items())
    assert all((decays[id(p)] > 0) == (p.ndim >= 2) for p in trained.values())


def test_muon_moves_inner_matrices_and_nothing_else_and_resumes_to_the_bit(trajectories, tmp_path):
    optimizer = replace(CONFIG.optimizer, matrices=Matrices.MUON)
    config = replace(CONFIG, optimizer=optimizer)
    module = AgentModule(config).agent
    together = make_optimizer(optimizer, module)
    muon, adamw = together.parts
    names = {p: name for name, p in module.named_parameters() if p.requires_grad}
    moved = {names[p] for group in muon.param_groups for p in group["params"]}
    rest = {names[p] for group in adamw.param_groups for p in group["params"]}
    assert moved | rest == set(names.values()) and not moved & rest
    assert moved == {name for name in names.values() if ".blocks." in name and name.endswith(".weight") and "norm" not in name}
    whole, once = train(trajectories, tmp_path / "whole.ckpt", 4, config=config)
    head, _ = train(trajectories, tmp_path / "last.ckpt", 2, config=config)
    tail, resumed = train(trajectories, tmp_path / "last.ckpt", 4, config=config, resume=True)
    assert [values["loss"] for values in head + tail] == [values["loss"] for values in whole]
    mine, theirs = resumed.agent.state_dict(), once.agent.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_muon_steps_as_torchs_does_but_for_rounding():
    """Tall, wide and square matrices, three steps: the same moves up to bfloat16, and the same state, so that either resumes."""
    shapes = [(12, 5), (5, 12), (8, 8), (8, 8)]
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed, shape in enumerate(shapes)]
    ends, states = [], []
    for make in (partial(torch.optim.Muon, adjust_lr_fn="match_rms_adamw"), Muon):
        matrices = [nn.Parameter(matrix.clone()) for matrix in start]
        optimizer = make([*matrices, nn.Parameter(torch.ones(3, 3))], lr=0.05, weight_decay=0.1)  # the last has no gradient
        for _ in range(3):
            sum((matrix**2).sum() + matrix.sum() for matrix in matrices).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(matrices)
        states.append([optimizer.state[matrix]["momentum_buffer"] for matrix in matrices])
    for first, torchs, ours in zip(start, *ends, strict=True):
        assert (ours - torchs).norm() < 0.02 * (torchs - first).norm()
    for torchs, ours in zip(*states, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=0.02, atol=0.02)


def test_muon_is_refused_where_matrices_are_sharded():
    with pytest.raises(ConfigError, match="muon needs whole matrices"):
        LearnerConfig(parallel=Parallel.FSDP, optimizer=OptimizerConfig(matrices=Matrices.MUON))


def test_half_precision_training_keeps_single_precision_weights(trajectories, tmp_path):
    exact, _ = train(trajectories, tmp_path / "a.ckpt", 2)
    half, module = train(trajectories, tmp_path / "b.ckpt", 2, config=replace(CONFIG, precision=Precision.HALF))
    assert half[-1]["loss"] == pytest.approx(exact[-1]["loss"], rel=0.03) and half[-1]["loss"] != exact[-1]["loss"]
    assert {p.dtype for p in module.agent.parameters()} == {torch.float32}
