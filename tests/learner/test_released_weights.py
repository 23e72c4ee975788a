"""Checkpoints named and laid out as the authors of LingBot-VA and X-WAM released theirs give models that compute what theirs do.

The authors' code is on no package index, so small checkpoints of their names are written here, and their passes as their code makes
them: a block of Wan over one sequence, between their own first and last layers.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_wan import DIM, FFN, FREQUENCIES, HEADS, LAYERS, TEXT, checkpoint, renamed, wan_block, write

from embodichain.errors import ConfigError, LearnerError
from learner.backbone.grid import Grid
from learner.codecs.config import LatentSpec
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.model import LingbotVa
from learner.models.x_wam.config import XwamConfig
from learner.models.x_wam.model import Xwam
from learner.models.x_wam.passes import Point, Times

CHANNELS, SIDE, VIEWS, ACTIONS = 4, 2, 3, 30
"""Channels of a latent of the autoencoder, side of a patch of latents, views, action channels."""
SIZES = {"dim": DIM, "heads": HEADS, "ffn": FFN, "layers": LAYERS, "time_frequencies": FREQUENCIES, "released": True}
LATENTS = LatentSpec(CHANNELS * SIDE**2)
GRID = Grid(VIEWS, 2, 2)


def numbers(*shape: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / shape[-1] ** 0.5


def of_lingbot() -> dict[str, torch.Tensor]:
    found = renamed(checkpoint())
    for name in ("patch_embedding.weight", "patch_embedding.bias"):
        del found[name]
    linear = {"patch_embedding_mlp": (DIM, LATENTS.channels), "action_embedder": (DIM, ACTIONS), "action_proj_out": (ACTIONS, DIM)}
    for seed, (name, shape) in enumerate(linear.items()):
        found |= {f"{name}.weight": numbers(*shape, seed=seed), f"{name}.bias": numbers(shape[0], seed=10 + seed)}
    for seed, (name, value) in enumerate([*found.items()]):
        if name.startswith("condition_embedder."):
            found[name.replace("condition_embedder", "condition_embedder_action")] = numbers(*value.shape, seed=20 + seed)
    return found


def of_x_wam() -> dict[str, torch.Tensor]:
    found = checkpoint() | {"view_embedding.weight": numbers(VIEWS, DIM)}
    for seed, kind in enumerate(("action", "proprio")):
        for name, shapes in (("encoder", [(DIM, ACTIONS), (DIM, DIM)]), ("decoder", [(DIM, DIM), (ACTIONS, DIM)])):
            for index, shape in zip((0, 2), shapes, strict=True):
                found[f"{kind}_{name}.{index}.weight"] = numbers(*shape, seed=seed)
                found[f"{kind}_{name}.{index}.bias"] = numbers(shape[0], seed=seed)
    last = f"blocks.{LAYERS - 1}."
    for name, value in [*found.items()]:
        if name.startswith(last):
            found[f"extra_blocks.0.0.{name.removeprefix(last)}"] = numbers(*value.shape, seed=len(name))
        if name.startswith("head."):
            found[f"extra_heads.0.{name.removeprefix('head.')}"] = numbers(*value.shape, seed=len(name))
    return found


def in_patches(latents: torch.Tensor) -> torch.Tensor:
    """Latents [..., c, 2 h, 2 w] as tokens [..., h w, 4 c] in the order of `EncoderConfig.merge`: row, column, channel."""
    found = latents.unflatten(-1, (-1, SIDE)).unflatten(-3, (-1, SIDE))  # [..., c, h, row, w, column]
    order = [*range(found.ndim - 5), *(found.ndim - 5 + axis for axis in (1, 3, 2, 4, 0))]
    return found.permute(order).flatten(-3).flatten(-3, -2)


def linear(w, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def timed(w, first: str, second: str, third: str, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding [S, D] and six-way modulation [S, 6, D] of noise levels [S]."""
    half = torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(FREQUENCIES // 2) / (FREQUENCIES // 2))
    angle = 1000.0 * sigma[:, None] * half
    embedded = linear(w, second, F.silu(linear(w, first, torch.cat([angle.cos(), angle.sin()], dim=-1))))
    return embedded, linear(w, third, F.silu(embedded)).unflatten(-1, (6, DIM))


def through_blocks(w, x: torch.Tensor, six: torch.Tensor, text: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The tokens [S, D] after all blocks; `six` holds the modulation of each token, [S, 6, D]."""
    each = {
        name: value.unsqueeze(2) if name.startswith("blocks.") and name.endswith(".modulation") else value
        for name, value in w.items()
    }
    x = x[None]
    for index in range(LAYERS):
        x = wan_block(each, index, x, six.transpose(0, 1)[None], text, positions)
    return x[0]


def norm(x: torch.Tensor, table: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
    shift, scale = (table.reshape(1, 2, DIM) + embedded[:, None]).unbind(1)
    return F.layer_norm(x, (DIM,), eps=1e-6) * (1.0 + scale) + shift


def read(w, text: torch.Tensor) -> torch.Tensor:
    return linear(w, "text_embedding.2", F.gelu(linear(w, "text_embedding.0", text), approximate="tanh"))


def lattice(frames: int) -> torch.Tensor:
    return torch.tensor([[t, h, w] for t in range(frames) for _ in range(VIEWS) for h in range(2) for w in range(2)]).double()


def lingbot(**changes) -> LingbotVa:
    config = LingbotConfig(**SIZES | {"told_state": False, "max_cameras": VIEWS} | changes)
    torch.manual_seed(3)
    return LingbotVa(config, latents=LATENTS, text_dim=TEXT).double()


def x_wam(**changes) -> Xwam:
    config = XwamConfig(**SIZES | {"depth": 1, "max_cameras": VIEWS} | changes)
    torch.manual_seed(3)
    return Xwam(config, latents=LATENTS, text_dim=TEXT).double()


def test_lingbot_va_computes_the_velocities_of_frames_and_of_actions_that_its_authors_compute(tmp_path):
    write(tmp_path / "transformer", of_lingbot())
    model = lingbot()
    report = model.load_backbone(tmp_path)
    assert set(report.own) == {"view", "place", "where.weight", "where.bias"} and not report.unfilled
    assert {name.split(".")[1] for name in report.unused} == {"text_embedder"}
    w, extra = checkpoint(), of_lingbot()
    text, sigma = numbers(1, 4, TEXT), torch.tensor([0.7, 0.2], dtype=torch.float64)  # a noise level for each of two frames
    words = model.text_memory(text)
    pictures, chunks = numbers(2, VIEWS, CHANNELS, 4, 4), numbers(2, 16, ACTIONS)

    tokens = (
        pictures.unflatten(-1, (-1, SIDE)).unflatten(-3, (-1, SIDE)).permute(0, 1, 3, 5, 2, 4, 6)
    )  # [F, V, h, w, c, row, column]
    x = F.linear(tokens.reshape(-1, LATENTS.channels), extra["patch_embedding_mlp.weight"], extra["patch_embedding_mlp.bias"])
    embedded, six = timed(w, "time_embedding.0", "time_embedding.2", "time_projection.1", sigma.repeat_interleave(GRID.size))
    out = norm(through_blocks(w, x, six, read(w, text), lattice(2)), w["head.modulation"], embedded)
    theirs = F.linear(out, extra["proj_out.weight"], extra["proj_out.bias"])
    group = model.frame_group(in_patches(pictures).flatten(1, 2)[None], 1.0 - sigma[None], 0, GRID)
    mine = model.video_out(model._run(group, (None,) * LAYERS, words)[0], group.embedding)
    torch.testing.assert_close(mine.flatten(0, 2), theirs, rtol=1e-9, atol=1e-9)

    names = (f"condition_embedder_action.{part}" for part in ("time_embedder.linear_1", "time_embedder.linear_2", "time_proj"))
    embedded, six = timed(extra, *names, sigma.repeat_interleave(16))
    times = torch.arange(2).repeat_interleave(16) + torch.arange(1, 17).repeat(2) / 17.0
    positions = torch.stack([times.double(), *[torch.full((32,), -1.0).double()] * 2], dim=1)
    x = through_blocks(w, linear(extra, "action_embedder", chunks.flatten(0, 1)), six, read(w, text), positions)
    theirs = linear(extra, "action_proj_out", norm(x, w["head.modulation"], embedded))
    group = model.action_group(chunks[None], 1.0 - sigma[None], 0)
    mine = model.action_out(model._run(group, (None,) * LAYERS, words)[0], group.embedding)
    torch.testing.assert_close(mine.flatten(0, 2), theirs, rtol=1e-6, atol=1e-6)


def as_folder(tmp_path):
    write(tmp_path, of_x_wam())
    return tmp_path


def as_training_file(tmp_path):
    state = {f"model.{name}": value for name, value in of_x_wam().items()} | {"vae.some.weight": torch.zeros(2)}
    torch.save({"module": state, "global_steps": 3}, tmp_path / "mp_rank_00_model_states.pt")
    return tmp_path / "mp_rank_00_model_states.pt"


@pytest.mark.parametrize("saved", [as_folder, as_training_file])
def test_x_wam_computes_the_velocities_and_the_depth_that_its_authors_compute(saved, tmp_path):
    model = x_wam()
    report = model.load_backbone(saved(tmp_path))
    assert set(report.own) == {"where.weight", "where.bias"} and not report.unfilled and not report.unused
    w = of_x_wam()
    text, levels = numbers(1, 4, TEXT), {"video": [0.0, 0.7, 0.7], "action": 0.3}
    pictures, chunks, states = numbers(3, VIEWS, CHANNELS, 4, 4), numbers(2, 16, ACTIONS), numbers(3, ACTIONS)

    def two(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(w, f"{name}.2", F.gelu(linear(w, f"{name}.0", x), approximate="tanh"))

    patches = F.conv2d(pictures.flatten(0, 1), w["patch_embedding.weight"][:, :, 0], w["patch_embedding.bias"], stride=SIDE)
    video = patches.flatten(2).transpose(1, 2).unflatten(0, (3, VIEWS)) + w["view_embedding.weight"][:, None]
    x = torch.cat([video.reshape(-1, DIM), two("action_encoder", chunks.flatten(0, 1)), two("proprio_encoder", states)])
    sigma = torch.tensor(levels["video"], dtype=torch.float64).repeat_interleave(GRID.size)
    of_states = torch.tensor([0.0, levels["action"], levels["action"]], dtype=torch.float64)
    sigma = torch.cat([sigma, torch.full((32,), levels["action"], dtype=torch.float64), of_states])
    embedded, six = timed(w, "time_embedding.0", "time_embedding.2", "time_projection.1", sigma)
    corner = torch.zeros(35, 3, dtype=torch.float64)
    corner[:, 0] = torch.cat([torch.arange(32) / 16.0, torch.arange(3.0)])
    out = through_blocks(w, x, six, read(w, text), torch.cat([lattice(3), corner]))
    frames = linear(w, "head.head", norm(out[: 3 * GRID.size], w["head.modulation"], embedded[: 3 * GRID.size]))

    one = torch.ones(1, 1, dtype=torch.float64)
    times = Times(1.0 - torch.tensor([levels["video"]], dtype=torch.float64), one - levels["action"], 1.0 - of_states[None])
    point = Point(in_patches(pictures).flatten(1, 2)[None], chunks[None], states[None])
    found, depth = model.sweep(point, times, None, model.read_text(text), GRID, depth=True)
    torch.testing.assert_close(found.latents_BFNC.flatten(0, 2), frames, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.actions_BFKA.flatten(0, 2), two("action_decoder", out[-35:-3]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.proprio_BFA[0], two("proprio_decoder", out[-3:]), rtol=1e-6, atol=1e-6)
    assert depth is not None
    branch = model.depth["blocks"][0].output.weight
    assert torch.equal(branch, w["extra_blocks.0.0.self_attn.o.weight"]), (
        "the copies have been trained apart: they are not the sources"
    )
    assert torch.equal(model.depth["head"].output.weight, w["extra_heads.0.head.weight"])


@pytest.mark.parametrize(
    ("made", "tensors", "spoil", "message"),
    [
        (
            lingbot,
            of_lingbot,
            lambda w: w.pop("action_proj_out.bias"),
            r"action_out.output.bias is not filled: the checkpoint lacks",
        ),
        (
            lingbot,
            of_lingbot,
            lambda w: w.update({"odd.weight": torch.zeros(2)}),
            r"odd.weight is not used: this model has no such",
        ),
        (
            x_wam,
            of_x_wam,
            lambda w: w.update({"view_embedding.weight": torch.zeros(4, DIM)}),
            r"view is not filled: \[4, 1, 48\] instead",
        ),
        (x_wam, of_x_wam, lambda w: w.pop("extra_heads.0.modulation"), r"depth.head.table is not filled"),
    ],
)
def test_a_released_model_that_is_not_complete_or_does_not_fit_is_refused_with_its_tensors(made, tensors, spoil, message, tmp_path):
    found = tensors()
    spoil(found)
    write(tmp_path, found)
    with pytest.raises(LearnerError, match=message) as caught:
        made().load_backbone(tmp_path)
    assert "codec wan with merge 2" in str(caught.value)


def test_released_weights_need_their_layout_and_that_layout_has_no_parts_of_ours(tmp_path):
    write(tmp_path, of_lingbot())
    with pytest.raises(ConfigError, match=r"set learner.agent.model.released true"):
        lingbot(released=False).load_backbone(tmp_path)
    with pytest.raises(ConfigError, match="set told_state false"):
        replace(lingbot().config, told_state=True)
    with pytest.raises(ConfigError, match="set glance and aim 0"):
        replace(x_wam().config, aim=2)


def test_training_files_that_hold_no_such_model_are_refused(tmp_path):
    for content, message in (
        ({"state_dict": {"encoder.w": torch.zeros(1)}}, "holds no weights of a training"),
        ({"module": print}, "alone"),
    ):
        torch.save(content, tmp_path / "last.ckpt")
        with pytest.raises(LearnerError, match=message):
            x_wam().load_backbone(tmp_path / "last.ckpt")
