"""What training may trade: memory for work, and work for compilation. Neither changes what is learned."""

import pytest
import torch
from learner_parts import GRID, exact_model, window

from embodichain.errors import ConfigError
from learner.memory.config import Recompute


def step(model, dtype=torch.float64, autocast=None, steps=5):
    """Loss and gradients of one seeded training step."""
    w = type(window())(*(None if x is None else x.to(dtype) for x in window(batch=2, steps=steps)))
    valid, mask = torch.ones(2, steps, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    draws = model.draw(w, torch.Generator().manual_seed(0))
    model.zero_grad()
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        losses = model.losses(w, draws, GRID, valid_BT=valid, imitate_BT=valid, action_mask_BA=mask)
    losses.total.backward()
    return losses.total.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("scan_steps", [0, 1, 2, 4, 100])
@pytest.mark.parametrize("blocks", [False, True])
def test_what_is_computed_again_is_what_was_computed(blocks, scan_steps):
    model = exact_model().train()
    loss, gradients = step(model)
    model.recompute = Recompute(blocks=blocks, scan_steps=scan_steps)
    again, same = step(model)
    assert again == loss
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-12, atol=1e-14)


def kept_bytes(model) -> int:
    """What the forward pass of a training step leaves for the backward pass."""
    held: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    w = window(batch=2, steps=24)
    valid, mask = torch.ones(2, 24, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    draws = model.draw(w, torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model.losses(w, draws, GRID, valid_BT=valid, imitate_BT=valid, action_mask_BA=mask)
    return sum(held.values())


def test_recomputing_keeps_less():
    model = exact_model().train()
    sizes = []
    for recompute in (Recompute(), Recompute(scan_steps=8), Recompute(blocks=True)):
        model.recompute = recompute
        sizes.append(kept_bytes(model))
    assert sizes[1] < 0.7 * sizes[0] and sizes[2] < 0.2 * sizes[0]


def test_truncation_stops_gradients_between_stretches_but_not_the_memory():
    model = exact_model().train()
    loss, gradients = step(model)
    model.recompute = Recompute(scan_steps=2, truncate=True)
    again, other = step(model)
    assert again == loss, "what is remembered stays"
    assert any((other[name] - gradient).abs().max() > 1e-6 for name, gradient in gradients.items())
    with pytest.raises(ConfigError, match="more than 0 to truncate"):
        Recompute(truncate=True)


@pytest.mark.slow
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_a_training_step_compiles_as_one_graph_without_breaks(autocast):
    """`fullgraph` raises at a break. Generating code takes minutes on a CPU and is left out."""
    model = exact_model(layers=2).float().train()
    loss, gradients = step(model, torch.float32, autocast, 2)
    model.losses = torch.compile(model.losses, fullgraph=True, backend="eager", dynamic=False)
    again, same = step(model, torch.float32, autocast, 2)
    assert again == pytest.approx(loss, rel=1e-3 if autocast else 1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-2, atol=2e-2 if autocast else 1e-5)


def test_weights_in_half_precision_train_on_windows_in_single():
    model = exact_model().to(torch.bfloat16).train()
    loss, gradients = step(model, torch.float32)
    exact, _ = step(exact_model().train())
    assert loss == pytest.approx(exact, rel=0.05)
    assert all(g.dtype == torch.bfloat16 and bool(g.isfinite().all()) for g in gradients.values())


@pytest.mark.slow
def test_blocks_compile_once_for_all_that_are_alike():
    model = exact_model(layers=3).float().train()
    loss, _ = step(model, torch.float32, steps=2)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model.compile_blocks(fullgraph=True, backend=count)
    assert step(model, torch.float32, steps=2)[0] == pytest.approx(loss, rel=1e-6)
    assert len(graphs) == 2, "the last block, which passes on less, and all others"
    model.compile_blocks(fullgraph=True, backend="aot_eager")
    assert step(model, torch.float32, steps=2)[0] == pytest.approx(loss, rel=1e-6), "the backward pass is traced too"
