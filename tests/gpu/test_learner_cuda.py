"""The learner on a GPU: half precision, compilation, and a step of the shape of Wan2.2-5B."""

from dataclasses import replace

import pytest
import torch

from embodichain.types import CHUNK
from learner.backbone.grid import Grid
from learner.codecs.config import LatentSpec
from learner.memory.config import Recompute
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.family import CLWM
from learner.models.clwm.model import Clwm
from learner.models.window import Window
from learner.models.world_model import Seen
from learner.training.config import OptimizerConfig
from learner.training.optimizer import adamw
from learner.training.utilisation import peak_flops

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.timeout(600),
]
GRID = Grid(2, 4, 4)


def made(config: ClwmConfig, dtype: torch.dtype = torch.float32, text: int = 64) -> Clwm:
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cuda"):
            return Clwm(config, latents=LatentSpec(32), text_dim=text).train()
    finally:
        torch.set_default_dtype(torch.float32)


def window(batch: int = 2, steps: int = 4, text: int = 64) -> Window:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).cuda()

    actions = normal(batch, steps, CHUNK, 30)
    return Window(normal(batch, steps + 1, GRID.size, 32), normal(batch, steps + 1, 30), actions, normal(batch, 8, text))


def losses(model: Clwm, w: Window, autocast: bool):
    valid = torch.ones(w.actions_BTKA.shape[:2], dtype=torch.bool, device="cuda")
    mask = torch.ones(len(valid), 30, dtype=torch.bool, device="cuda")
    draws = model.draw(w, torch.Generator().manual_seed(0))
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        return model.losses(w, draws, GRID, valid_BT=valid, imitate_BT=valid, action_mask_BA=mask).total


def test_the_gpu_computes_what_the_cpu_computes():
    torch.backends.cuda.matmul.allow_tf32 = False
    model, w = made(CLWM.size("tiny")), window()
    there = losses(model, w, autocast=False).item()
    here = Clwm(model.config, latents=LatentSpec(32), text_dim=64)
    here.load_state_dict(model.state_dict())
    local = Window(*(x.cpu() for x in w))
    valid, mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    draws = here.draw(local, torch.Generator().manual_seed(0))
    assert there == pytest.approx(
        here.losses(local, draws, GRID, valid_BT=valid, imitate_BT=valid, action_mask_BA=mask).total.item(), rel=1e-4
    )


def test_half_precision_is_close_and_its_gradients_are_finite():
    model, w = made(CLWM.size("tiny")), window()
    exact, half = losses(model, w, autocast=False), losses(model, w, autocast=True)
    half.backward()
    assert half.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_compiled_blocks_give_the_same_loss_and_gradients():
    model, w = made(replace(CLWM.size("tiny"), layers=2, memory_every=1)), window(steps=2)
    expected = losses(model, w, autocast=False)
    gradients = torch.autograd.grad(expected, list(model.blocks.parameters()))
    model.compile_blocks(fullgraph=True)
    found = losses(model, w, autocast=False)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    for mine, theirs in zip(torch.autograd.grad(found, list(model.blocks.parameters())), gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-3)


def test_memory_on_the_device_does_not_grow_with_what_is_remembered():
    model, w = made(CLWM.size("tiny")).eval(), window(batch=1)
    taken = {}
    with torch.inference_mode():
        memory, text = model.empty(), model.read_text(w.text_BLC)
        for step in range(1, 301):
            memory = model.observe(memory, Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], w.actions_BTKA[:, 0]), text, GRID)
            taken[step] = torch.cuda.memory_allocated()
    assert len({taken[step] for step in (10, 100, 300)}) == 1


def test_a_training_step_of_the_shape_of_wan_2_2_5b_fits_and_learns():
    needed = 6.3e9 * (2 + 2 + 4) / 2**30 + 12  # weights, gradients and AdamW's two moments in bf16, and what a step keeps
    if torch.cuda.get_device_properties(0).total_memory / 2**30 < needed:
        pytest.skip(f"needs a device of {needed:.0f} GiB")
    model, w = made(CLWM.size("wan5b"), torch.bfloat16, text=4096), window(batch=1, steps=2, text=4096)
    model.recompute = Recompute(blocks=True)
    optimizer = adamw(OptimizerConfig(rate=1e-4), model)
    found = []
    for _ in range(4):
        total = losses(model, w, autocast=True)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found.append(total.item())
    assert found[-1] < found[0]
    assert torch.cuda.max_memory_allocated() / 2**30 < 139


def test_the_peak_of_common_devices_is_known():
    name = torch.cuda.get_device_name()
    assert (peak_flops("cuda") or 0) > 1e13 or not any(part in name for part in ("H100", "H200", "A100"))
