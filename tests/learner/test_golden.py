"""Refactoring changes no result: two seeded training steps give the losses that were recorded before.

On a processor and torch of the recorded kind they are equal to the last bit; elsewhere sums round in another order. A change of the
model or of its training that is meant to change results records them again: `python tests/learner/test_golden.py`.
"""

import json
import platform
from pathlib import Path

import pytest
import torch
from learner_parts import GRID, SMALL, exact_model, trajectory, window

from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.training.config import LearnerConfig, OptimizerConfig
from learner.training.module import AgentModule, RingDataModule, fit

RECORDED = Path(__file__).with_name("golden_losses.json")


def training_losses(folder: Path) -> list[float]:
    """Of the whole pipe: source, normalizer, encoder, model, optimiser and schedule. float32."""
    config = LearnerConfig(
        agent=SMALL,
        data=DataConfig(batch_size=4, window=4),
        optimizer=OptimizerConfig(rate=3e-3, warmup_steps=1),
        measure_batches=1,
        threads=1,
    )
    dataset = RingDataset(MemorySource([trajectory(number, 2 + number % 5) for number in range(12)]), config.data)
    losses: list[float] = []

    def note(step, values) -> bool:
        losses.extend(values[name] for name in ("loss", "loss/video", "loss/action", "gradient_norm"))
        return False

    fit(
        AgentModule(config),
        RingDataModule(dataset),
        steps=3,
        clip=1.0,
        checkpoint=folder / "last.ckpt",
        checkpoint_every=100,
        resume=False,
        on_step=note,
    )
    return losses


def model_losses() -> list[float]:
    """Of the model alone after two steps with every path open. float64."""
    model, w = exact_model(history_noise_told=True, video_shift=3.0).train(), window(batch=2, steps=5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    valid = torch.ones(2, 5, dtype=torch.bool)
    imitate, mask = valid.clone(), torch.ones(2, 30, dtype=torch.bool)
    imitate[0, 3], mask[1, 20] = False, False
    found = []
    for step in range(3):
        draws = model.draw(w, torch.Generator().manual_seed(step))
        losses = model.losses(w, draws, GRID, valid_BT=valid, imitate_BT=imitate, action_mask_BA=mask)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        found += [losses.total.item(), losses.parts["video"].item(), losses.parts["action"].item()]
    return found


def machine() -> str:
    """What decides the order in which sums round."""
    lines = {" ".join(line.split()) for line in Path("/proc/cpuinfo").read_text().splitlines()}
    names = sorted(line for line in lines if line.startswith(("model", "cpu family")))
    return ", ".join([platform.machine(), *names, torch.backends.cpu.get_cpu_capability(), torch.__version__])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["training", "model"])
def test_seeded_steps_give_the_recorded_losses(name, tmp_path):
    recorded = json.loads(RECORDED.read_text())
    found = training_losses(tmp_path) if name == "training" else model_losses()
    assert found == pytest.approx(recorded[name], rel=1e-5 if name == "training" else 1e-11)
    if recorded["machine"] == machine():
        assert found == recorded[name], "on the machine that recorded them: to the last bit"


def record() -> None:
    """Writes the losses of this machine."""
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        values = {"machine": machine(), "training": training_losses(Path(folder)), "model": model_losses()}
    RECORDED.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    record()
