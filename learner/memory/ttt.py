"""Memory as fast weights learned at test time: TTT-MLP in two pure functions, and the layer that reads and writes it.

Sun et al. 2024, "Learning to (Learn at Test Time)"; Dalal et al. 2025, "One-Minute Video Generation with Test-Time Training".
The state of a layer is a two-layer MLP per head, trained by one gradient step per time step on
    l(W; K, V) = 1/2 ||f(K; W) - V||^2,   f(x; W) = x + LN(gelu(x W1 + b1) W2^T + b2).
The gradient is in closed form, so that training differentiates through the updates with ordinary autograd.

Shapes: B batch, H heads, N tokens of one time step, d head width, m = ratio x d hidden width, D = H x d.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from learner.backbone.layers import Rotation, rotate, wide
from learner.memory.config import Recompute, TttConfig
from learner.memory.precision import in_full

_EPS = 1e-6
_GELU_A = 0.7978845608028654  # sqrt(2 / pi)
_GELU_B = 0.044715


class FastWeights(NamedTuple):
    """The state of one layer. Updates return new tensors and never write into these, so that a fork is just a reference."""

    w1: Tensor
    """[B, H, d, m], float32."""
    b1: Tensor
    """[B, H, 1, m]."""
    w2: Tensor
    """[B, H, d, m], the second matrix transposed: it has the layout of its gradient, so that steps are added contiguously."""
    b2: Tensor
    """[B, H, 1, d]."""
    gain: Tensor
    """[H, 1, d]: scale of the inner layer norm; trained by the optimiser, never changed by an update."""
    shift: Tensor
    """[H, 1, d]: its offset."""

    def spread(self, count: int) -> FastWeights:
        """Repeats each batch entry `count` times in a row."""
        w1, b1, w2, b2 = (w.repeat_interleave(count, dim=0) for w in self[:4])
        return FastWeights(w1, b1, w2, b2, self.gain, self.shift)

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights that updates change: w1, b1, w2, b2."""
        return sum(w.numel() * w.element_size() for w in self[:4])


def apply(W: FastWeights, Q: Tensor) -> Tensor:
    """Reads the memory: f(Q; W), [B, H, N, d]."""
    hidden = F.gelu(Q @ W.w1 + W.b1, approximate="tanh")
    return Q + F.layer_norm(hidden @ W.w2.transpose(-1, -2) + W.b2, Q.shape[-1:], eps=_EPS) * W.gain + W.shift


def loss(W: FastWeights, K: Tensor, V: Tensor) -> Tensor:
    """The inner loss that an update reduces, for each token: 1/2 ||f(K; W) - V||^2, [B, H, N]."""
    return 0.5 * (apply(W, K) - V).square().sum(dim=-1)


class Deltas(NamedTuple):
    """The factors of each token's gradient, before they are multiplied and summed over tokens."""

    keys: Tensor
    """K, [B, H, N, d]."""
    d_x1: Tensor
    """Gradient at the hidden layer's input, times the step size, [B, H, N, m]."""
    hidden: Tensor
    """Hidden activations, [B, H, N, m]."""
    d_x2: Tensor
    """Gradient at the output of the second matrix, times the step size, [B, H, N, d]."""

    def tokens(self, start: int, stop: int | None) -> Deltas:
        """The factors of tokens start to stop."""
        return Deltas(*(x[..., start:stop, :] for x in self))


def deltas(W: FastWeights, K: Tensor, V: Tensor, eta: Tensor) -> Deltas:
    """Back-propagates sum_n eta_n l_n through f at W by hand; see `gradient` for shapes."""
    x1 = K @ W.w1 + W.b1
    hidden = F.gelu(x1, approximate="tanh")
    x2 = hidden @ W.w2.transpose(-1, -2) + W.b2
    residual = K + F.layer_norm(x2, x2.shape[-1:], eps=_EPS) * W.gain + W.shift - V
    # Chain rule from the output back: residual → layer norm → second matrix → GELU. The step sizes enter here once, because every
    # further factor is linear in the gradient.
    d_x2 = _NormGradient.apply(residual * (W.gain * eta), x2)
    return Deltas(K, _GeluGradient.apply(d_x2 @ W.w2, x1), hidden, d_x2)


def summed(W: FastWeights, parts: Deltas) -> FastWeights:
    """The step that some tokens make together: their gradients, summed, with the layout of W."""
    return FastWeights(
        w1=parts.keys.transpose(-1, -2) @ parts.d_x1,
        b1=parts.d_x1.sum(dim=-2, keepdim=True),
        w2=parts.d_x2.transpose(-1, -2) @ parts.hidden,
        b2=parts.d_x2.sum(dim=-2, keepdim=True),
        gain=W.gain,
        shift=W.shift,
    )


def gradient(W: FastWeights, K: Tensor, V: Tensor, eta: Tensor) -> FastWeights:
    """The step of one mini-batch: the gradient of sum_n eta_n l_n at W in closed form, with the layout of W.

    Args:
        W: the weights at which the gradient is taken.
        K: keys [B, H, N, d].
        V: values [B, H, N, d].
        eta: step size of each token [B, H, N, 1].
    """
    return summed(W, deltas(W, K, V, eta))


def descend(W: FastWeights, step: FastWeights) -> FastWeights:
    """W - step. Steps of several mini-batches taken at the same W add up to one step of their union."""
    return FastWeights(W.w1 - step.w1, W.b1 - step.b1, W.w2 - step.w2, W.b2 - step.b2, W.gain, W.shift)


def update(W: FastWeights, K: Tensor, V: Tensor, eta: Tensor) -> FastWeights:
    """Writes to the memory: one gradient step on all tokens of one time step. Shapes as in `gradient`."""
    return descend(W, gradient(W, K, V, eta))


class _GeluGradient(torch.autograd.Function):
    """Gradient of tanh-GELU at x for a cotangent g: g f'(x), with the second derivative written out for its backward.

    With u = a (x + b x^3) and t = tanh u: f'' = (1 - t^2) (u' + x u'' / 2 - x t u'^2).
    The scan over time spends much of its work here, so it is one autograd function instead of twenty recorded operations.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(g, x)
        return torch.ops.aten.gelu_backward(g, x, approximate="tanh")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (d_out,) = grads
        g, x = ctx.saved_tensors
        square = x * x
        # In-place operations reuse three buffers: this runs once a time step, and memory traffic dominates its cost.
        t = torch.mul(square, _GELU_A * _GELU_B).add_(_GELU_A).mul_(x).tanh_()
        bend = square.mul_(3.0 * _GELU_A * _GELU_B)  # x u'' / 2
        d_u = bend + _GELU_A
        curve = bend.add_(d_u).sub_(d_u.square_().mul_(t).mul_(x)).mul_(t.square_().neg_().add_(1.0))
        return torch.ops.aten.gelu_backward(d_out, x, approximate="tanh"), curve.mul_(g).mul_(d_out)


class _NormGradient(torch.autograd.Function):
    """Gradient of the layer norm n(x) without affine for a cotangent g: r (g - mean g - n mean(g n)), r = 1 / deviation.

    Linear in g and symmetric, so its own backward in g is itself; the backward in x is written out.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor) -> Tensor:
        n, _, r = torch.native_layer_norm(x, x.shape[-1:], None, None, _EPS)
        ctx.save_for_backward(g, n, r)
        return _normed_gradient(g, n, r)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        u = grads[0].contiguous()  # it comes transposed out of a matrix product, and the sums below need contiguous rows
        g, n, r = ctx.saved_tensors
        d_g = _normed_gradient(u, n, r)
        v = u * (g * n).mean(dim=-1, keepdim=True) + g * (u * n).mean(dim=-1, keepdim=True)
        stretch = n * (d_g * g).mean(dim=-1, keepdim=True)
        return d_g, -r * (_normed_gradient(v, n, r) + stretch)


def _normed_gradient(g: Tensor, n: Tensor, r: Tensor) -> Tensor:
    return (g - g.mean(dim=-1, keepdim=True)).sub_(n * (g * n).mean(dim=-1, keepdim=True)).mul_(r)


class Rotations(NamedTuple):
    """Rotary embeddings of the frame, video and action tokens of a memory layer."""

    frame: Rotation
    video: Rotation
    action: Rotation


class Written(NamedTuple):
    """What tokens write into memory: keys [B, H, N, d], values [B, H, N, d] and step sizes [B, H, N, 1]."""

    keys: Tensor
    values: Tensor
    rates: Tensor


class TttLayer(nn.Module):
    """Projections around the fast weights, and the gated residual z + tanh(alpha) * out.

    Queries and keys have unit length per head and are then rotated by position; values are K + LN(theta_V z - K), which keeps
    the target of the inner loss at the scale that f can reach. Step sizes are base_rate * sigmoid(z w + b) / (d n), with n the
    number of video tokens of a frame, so that more cameras do not mean larger steps.
    """

    def __init__(self, dim: int, heads: int, config: TttConfig) -> None:
        super().__init__()
        self.config, self.dim, self.heads, self.width = config, dim, heads, dim // heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.rate = nn.Linear(dim, heads)
        self.target_norm = nn.LayerNorm(self.width, eps=_EPS)
        self.post_norm = nn.LayerNorm(dim, eps=_EPS)
        self.output = nn.Linear(dim, dim)
        self.alpha = nn.Parameter(torch.full((dim,), config.gate))
        hidden = config.ratio * self.width
        self.w1 = nn.Parameter(config.initial_std * torch.randn(heads, self.width, hidden))
        self.b1 = nn.Parameter(torch.zeros(heads, 1, hidden))
        self.w2 = nn.Parameter(config.initial_std * torch.randn(heads, self.width, hidden))
        self.b2 = nn.Parameter(torch.zeros(heads, 1, self.width))
        self.gain = nn.Parameter(torch.ones(heads, 1, self.width))
        self.shift = nn.Parameter(torch.zeros(heads, 1, self.width))

    def initial(self) -> FastWeights:
        """The learned initial state, with batch size 1, which broadcasts."""
        w1, b1, w2, b2 = (wide(w).unsqueeze(0) for w in (self.w1, self.b1, self.w2, self.b2))
        return FastWeights(w1, b1, w2, b2, wide(self.gain), wide(self.shift))

    def queries(self, tokens: Tensor, rotation: Rotation) -> Tensor:
        """Queries [..., H, N, d] of tokens [..., N, D]."""
        return self._unit(self.query(self._normed(tokens)), rotation)

    def writes(self, tokens: Tensor, rotation: Rotation, frame_tokens: int) -> Written:
        """Keys, values and step sizes of tokens [..., N, D]; `frame_tokens` is the n of the step size."""
        normed = self._normed(tokens)
        raw_keys, values = self.key_value(normed).chunk(2, dim=-1)
        keys = self._unit(raw_keys, rotation)
        values = wide(self._split(values))
        rates = torch.sigmoid(wide(self.rate(normed))).transpose(-1, -2).unsqueeze(-1)
        scale = self.config.base_rate / (self.width * frame_tokens)
        return Written(keys, keys + self._target(values - keys), scale * rates)

    def forward(
        self,
        frames: Tensor,
        video: Tensor,
        action: Tensor,
        rotations: Rotations,
        scene: int,
        *,
        last: bool,
        recompute: Recompute,
        imagined: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, FastWeights]:
        """Runs the layer over a whole training window.

        Frame t reads the memory of the frames before it and is then written. Video t reads the long-term memory after frame t.
        Action t reads the working memory, which also contains the scene tokens of frame t + 1, real or imagined.

        Args:
            frames: scene and body tokens of frames 0..T, [B, T + 1, N + M, D].
            video: tokens of the noisy frames 1..T, [B, T, N, D].
            action: tokens of the noisy chunks 0..T-1, [B, T, K, D]; with K = 0 no working memory is made.
            rotations: rotary embeddings of the three.
            scene: N; the first N tokens of a frame are its scene, the rest its body.
            last: whether this is the last layer, in which frames are written but need not read.
            recompute: what is recomputed in the backward pass.
            imagined: tokens of the imagined frames 1..T, [B, T, N, D]. If given, they are written into the working memory instead
                of the real frames' scene tokens, and read what the real frames would read.

        Returns:
            Frame, video, action and imagined tokens after reading, and the long-term memory after frame T.
        """
        writes = self.writes(frames, rotations.frame, scene)
        asks = self.queries(video, rotations.video)
        expected = None
        if imagined is not None:
            as_scene = Rotation(*(part[:scene] for part in rotations.frame))
            expected = self.writes(imagined, as_scene, scene)
            asks = torch.cat([asks, self.queries(imagined, as_scene)], dim=-2)
        state = self.initial()
        first = []
        if not last:
            frame_asks = self.queries(frames, rotations.frame)
            asks = torch.cat([asks, frame_asks[:, 1:]], dim=-2)
            with in_full(frames.device):
                first = [apply(state, frame_asks[:, 0])]
        action_asks = self.queries(action, rotations.action) if action.shape[2] else None
        state, reads, action_reads = scan(state, writes, asks, action_asks, scene, recompute, expected)
        read = torch.stack(reads, dim=1)
        sizes = [video.shape[2], 0 if imagined is None else scene]
        read_by_video, read_by_imagined, read_by_frames = read.split([*sizes, read.shape[-2] - sum(sizes)], dim=-2)
        video = self.gated(video, read_by_video)
        if imagined is not None:
            imagined = self.gated(imagined, read_by_imagined)
        if action_reads:
            action = self.gated(action, torch.stack(action_reads, dim=1))
        if not last:
            frames = self.gated(frames, torch.stack([*first, *read_by_frames.unbind(1)], dim=1))
        return frames, video, action, imagined, state

    def gated(self, tokens: Tensor, read: Tensor) -> Tensor:
        """Adds memory reads [..., H, N, d] to the tokens through the gate: tokens + tanh(alpha) * out."""
        out = self.output(self.post_norm(read.transpose(-2, -3).flatten(-2).to(tokens.dtype)))
        return tokens + torch.tanh(self.alpha) * out

    def _target(self, differences: Tensor) -> Tensor:
        norm = self.target_norm
        return F.layer_norm(differences, norm.normalized_shape, wide(norm.weight), wide(norm.bias), norm.eps)

    def _normed(self, tokens: Tensor) -> Tensor:
        return F.layer_norm(wide(tokens), (self.dim,), eps=_EPS).to(tokens.dtype)

    def _split(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-1, (self.heads, self.width)).transpose(-2, -3)

    def _unit(self, flat: Tensor, rotation: Rotation) -> Tensor:
        return rotate(F.normalize(wide(self._split(flat)), dim=-1), rotation)


def scan(
    state: FastWeights,
    writes: Written,
    asks: Tensor,
    action_asks: Tensor | None,
    scene: int,
    recompute: Recompute,
    expected: Written | None = None,
) -> tuple[FastWeights, list[Tensor], list[Tensor]]:
    """Writes frames 0..T to the memory in order, and answers queries after each.

    Args:
        state: the memory before frame 0.
        writes: keys, values and step sizes of frames 0..T, [B, T + 1, H, N + M, .].
        asks: queries of the long-term memory after frames 0..T-1, [B, T, H, ., d].
        action_asks: queries of the working memory, which also contains the first `scene` tokens of frame t + 1, [B, T, H, K, d];
            None without actions.
        scene: N.
        recompute: whether stretches of the scan are recomputed in the backward pass.
        expected: written into the working memory instead of the scene tokens of frames 1..T, [B, T, H, N, .].

    Returns:
        The memory after frame T, the T answers of the long-term memory, and the T answers of the working memory.
    """
    steps = asks.shape[1]
    size = recompute.scan_steps or steps + 1
    reads: list[Tensor] = []
    action_reads: list[Tensor] = []
    for begin in range(0, steps + 1, size):
        end = min(begin + size, steps + 1)
        stretch = (
            Written(*(part[:, begin:end] for part in writes)),
            asks[:, begin:end],
            None if action_asks is None else action_asks[:, max(begin - 1, 0) : end - 1],
            None if expected is None else Written(*(part[:, max(begin - 1, 0) : end - 1] for part in expected)),
        )
        if recompute.truncate and begin:
            w1, b1, w2, b2 = (part.detach() for part in state[:4])
            # Gain and shift stay attached: they are parameters, not state, and have no history to cut.
            state = FastWeights(w1, b1, w2, b2, state.gain, state.shift)
        with in_full(asks.device):
            if recompute.scan_steps and torch.is_grad_enabled():
                state, read, action_read = checkpoint(_stretch, state, *stretch, scene, begin == 0, use_reentrant=False)
            else:
                state, read, action_read = _stretch(state, *stretch, scene, begin == 0)
        reads += read
        action_reads += action_read
    return state, reads, action_reads


def _stretch(
    state: FastWeights,
    writes: Written,
    asks: Tensor,
    action_asks: Tensor | None,
    expected: Written | None,
    scene: int,
    first: bool,
) -> tuple[FastWeights, list[Tensor], list[Tensor]]:
    """Some steps of `scan`. Frame 0 has no working memory to read, because no frame before it predicted it."""
    steps = writes.keys.shape[1]
    action_queries = [None] * steps if action_asks is None else [*[None] * first, *action_asks.unbind(1)]
    forecasts = [None] * steps if expected is None else [*[None] * first, *zip(*(x.unbind(1) for x in expected), strict=True)]
    queries = [*asks.unbind(1), *[None] * (steps - asks.shape[1])]
    reads, action_reads = [], []
    keys, values, rates = (part.unbind(1) for part in writes)
    for key, value, rate, ask, action_ask, forecast in zip(keys, values, rates, queries, action_queries, forecasts, strict=True):
        # All gradients are taken at the same state, so the scene's part alone is the working memory's update, and adding the body's
        # part to it gives the long-term memory: the scene is computed once for both.
        parts = deltas(state, key, value, rate)
        working = descend(state, summed(state, parts.tokens(0, scene)))
        if action_ask is not None:
            action_reads.append(apply(working if forecast is None else update(state, *forecast), action_ask))
        state = descend(working, summed(working, parts.tokens(scene, None)))
        if ask is not None:
            reads.append(apply(state, ask))
    return state, reads, action_reads
