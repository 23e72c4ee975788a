from itertools import pairwise

import pytest
import torch

from learner.backbone.layers import Rotation, chunk_positions, rotary
from learner.memory.config import TttConfig
from learner.memory.ttt import FastWeights, TttLayer, _GeluGradient, _NormGradient, apply, gradient, loss, update

B, H, N, D, M = 2, 3, 7, 6, 24


def weights(seed: int = 0) -> FastWeights:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=g, dtype=torch.float64)

    return FastWeights(
        0.5 * normal(B, H, D, M),
        0.3 * normal(B, H, 1, M),
        0.5 * normal(B, H, D, M),
        0.3 * normal(B, H, 1, D),
        1 + 0.2 * normal(H, 1, D),
        0.2 * normal(H, 1, D),
    )


def tokens(seed: int = 1):
    g = torch.Generator().manual_seed(seed)
    K, V = (torch.randn((B, H, N, D), generator=g, dtype=torch.float64) for _ in range(2))
    return K, V, 0.1 * torch.rand((B, H, N, 1), generator=g, dtype=torch.float64)


def test_the_closed_form_step_is_what_autograd_finds():
    W, (K, V, eta) = weights(), tokens()
    learned = [w.requires_grad_() for w in W[:4]]
    objective = (eta.squeeze(-1) * loss(W, K, V)).sum()
    for mine, theirs in zip(gradient(W, K, V, eta)[:4], torch.autograd.grad(objective, learned), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_through_an_update_are_those_of_differentiating_twice():
    """The outer loop learns through the inner one: the hand-written second derivatives must be right."""
    W, (K, V, eta) = weights(), tokens()
    leaves = [x.requires_grad_() for x in (*W, K, V, eta)]
    Q = tokens(2)[0]
    mine = torch.autograd.grad(apply(update(W, K, V, eta), Q).square().sum(), leaves)

    steps = torch.autograd.grad((eta.squeeze(-1) * loss(W, K, V)).sum(), W[:4], create_graph=True)
    after = FastWeights(*(w - s for w, s in zip(W[:4], steps, strict=True)), W.gain, W.shift)
    theirs = torch.autograd.grad(apply(after, Q).square().sum(), leaves)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", [_GeluGradient, _NormGradient])
def test_second_derivatives_agree_with_finite_differences(function):
    g, x = (torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(function.apply, (g, x))


def test_an_update_lowers_the_loss_on_its_own_tokens():
    W, (K, V, _) = weights(), tokens()
    rates = torch.full((B, H, N, 1), 0.02, dtype=torch.float64)
    losses = [loss(W, K, V).sum()]
    for _ in range(5):
        W = update(W, K, V, rates)
        losses.append(loss(W, K, V).sum())
    assert all(b < a for a, b in pairwise(losses))


def test_an_update_writes_into_nothing():
    W, (K, V, eta) = weights(), tokens()
    before = [w.clone() for w in W]
    after = update(W, K, V, eta)
    assert all(torch.equal(a, b) for a, b in zip(W, before, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(after[:4], before[:4], strict=True))


def test_tokens_of_rate_zero_leave_no_trace():
    W, (K, V, eta) = weights(), tokens()
    eta = eta.clone()
    eta[..., 3:, :] = 0
    for a, b in zip(update(W, K, V, eta), update(W, K[..., :3, :], V[..., :3, :], eta[..., :3, :]), strict=True):
        torch.testing.assert_close(a, b)


def layer(**changes) -> tuple[TttLayer, Rotation]:
    torch.manual_seed(0)
    made = TttLayer(16, 2, TttConfig(**changes))
    cos, sin = rotary(chunk_positions(5, 0.0), 8)
    return made, Rotation(cos.float(), sin.float())


def test_a_closed_gate_passes_tokens_bit_for_bit():
    made, rotation = layer(gate=0.0)
    x = torch.randn(2, 3, 5, 16)
    assert torch.equal(made.gated(x, apply(made.initial(), made.queries(x, rotation))), x)


def test_the_layer_memorises_what_it_is_shown():
    """With the layer's own keys, values and step sizes the inner loss falls."""
    made, rotation = layer(base_rate=1.0)
    write = made.writes(torch.randn(1, 5, 16), rotation, 5)
    state = made.initial()
    after = update(state, *write)
    assert loss(after, write.keys, write.values).sum() < loss(state, write.keys, write.values).sum()


def test_state_stays_float32_under_half_precision():
    made, rotation = layer()
    with torch.autocast("cpu", torch.bfloat16):
        write = made.writes(torch.randn(1, 5, 16), rotation, 5)
        assert {w.dtype for w in (*made.initial(), *write)} == {torch.float32}
