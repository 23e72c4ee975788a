"""A checkpoint of Wan's naming and arithmetic, written here with random weights, gives the backbone Wan's outputs."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from embodichain.errors import LearnerError
from learner.backbone.layers import Rotation, attend, grid_positions, rotary
from learner.codecs.config import LatentSpec
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.model import Clwm

DIM, HEADS, FFN, TEXT, FREQUENCIES, LAYERS = 48, 2, 64, 10, 16, 2
TO_DIFFUSERS = [  # the renaming that diffusers' conversion script applies, in its order
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("head.modulation", "scale_shift_table"),
    ("head.head", "proj_out"),
    ("modulation", "scale_shift_table"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
    ("norm3", "norm2"),
    *[(f"self_attn.{x}.", f"attn1.to_{x}.") for x in "qkv"],
    ("self_attn.o.", "attn1.to_out.0."),
    *[(f"cross_attn.{x}.", f"attn2.to_{x}.") for x in "qkv"],
    ("cross_attn.o.", "attn2.to_out.0."),
    ("self_attn.", "attn1."),
    ("cross_attn.", "attn2."),
]


def checkpoint() -> dict[str, torch.Tensor]:
    """Random weights in the authors' naming, float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64) / shape[-1] ** 0.5

    found = {"patch_embedding.weight": normal(DIM, 4, 1, 2, 2), "patch_embedding.bias": normal(DIM)}
    found |= {"head.head.weight": normal(16, DIM), "head.head.bias": normal(16), "head.modulation": normal(1, 2, DIM)}

    def linear(name, out, into):
        found[f"{name}.weight"], found[f"{name}.bias"] = normal(out, into), normal(out)

    linear("text_embedding.0", DIM, TEXT)
    linear("text_embedding.2", DIM, DIM)
    linear("time_embedding.0", DIM, FREQUENCIES)
    linear("time_embedding.2", DIM, DIM)
    linear("time_projection.1", 6 * DIM, DIM)
    for i in range(LAYERS):
        for attention in ("self_attn", "cross_attn"):
            for x in "qkvo":
                linear(f"blocks.{i}.{attention}.{x}", DIM, DIM)
            for x in "qk":
                found[f"blocks.{i}.{attention}.norm_{x}.weight"] = 1 + normal(DIM)
        found[f"blocks.{i}.norm3.weight"], found[f"blocks.{i}.norm3.bias"] = 1 + normal(DIM), normal(DIM)
        linear(f"blocks.{i}.ffn.0", FFN, DIM)
        linear(f"blocks.{i}.ffn.2", DIM, FFN)
        found[f"blocks.{i}.modulation"] = normal(1, 6, DIM)
    return found


def renamed(tensors):
    def rename(name: str) -> str:
        for old, new in TO_DIFFUSERS:
            name = name.replace(old, new)
        return name

    return {rename(name): tensor for name, tensor in tensors.items()}


def write(folder, tensors, shards: int = 2):
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(tensors)
    for shard in range(shards):
        part = {name: tensors[name].contiguous() for name in names[shard::shards]}
        save_file(part, folder / f"diffusion_pytorch_model-{shard + 1:05}-of-{shards:05}.safetensors")


def model(**changes) -> Clwm:
    sizes = {
        "dim": DIM,
        "layers": LAYERS,
        "heads": HEADS,
        "ffn": FFN,
        "time_frequencies": FREQUENCIES,
        "memory_every": 1,
        **changes,
    }
    torch.manual_seed(1)
    return Clwm(ClwmConfig(**sizes), latents=LatentSpec(6), text_dim=TEXT).double()


def wan_block(w, i: int, x, six, text, positions):
    """Wan's block as its paper's code computes it: neighbouring channels as complex numbers, three norms, six-way modulation."""
    p = {name.removeprefix(f"blocks.{i}."): value for name, value in w.items() if name.startswith(f"blocks.{i}.")}

    def linear(name, y):
        return F.linear(y, p[f"{name}.weight"], p[f"{name}.bias"])

    def rms(name, y):
        return y * torch.rsqrt(y.square().mean(dim=-1, keepdim=True) + 1e-6) * p[f"{name}.weight"]

    def heads(y):
        return y.unflatten(-1, (HEADS, -1)).transpose(-2, -3)

    def turned(y):
        d = DIM // HEADS
        spatial = 2 * (d // 6)
        angles = []
        for axis, size in enumerate((d - 2 * spatial, spatial, spatial)):
            angles.append(positions[:, axis : axis + 1] / 1e4 ** (torch.arange(0, size, 2, dtype=torch.float64) / size))
        turn = torch.polar(torch.ones(()).double(), torch.cat(angles, dim=1))
        return torch.view_as_real(torch.view_as_complex(y.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (p["modulation"] + six).unbind(1)
    y = F.layer_norm(x, (DIM,), eps=1e-6) * (1 + scale) + shift
    q, k, v = (
        heads(rms("self_attn.norm_q", linear("self_attn.q", y))),
        heads(rms("self_attn.norm_k", linear("self_attn.k", y))),
        heads(linear("self_attn.v", y)),
    )
    out = F.scaled_dot_product_attention(turned(q), turned(k), v)
    x = x + linear("self_attn.o", out.transpose(-2, -3).flatten(-2)) * gate
    y = F.layer_norm(x, (DIM,), p["norm3.weight"], p["norm3.bias"], eps=1e-6)
    q = heads(rms("cross_attn.norm_q", linear("cross_attn.q", y)))
    k, v = heads(rms("cross_attn.norm_k", linear("cross_attn.k", text))), heads(linear("cross_attn.v", text))
    out = F.scaled_dot_product_attention(q, k, v)
    x = x + linear("cross_attn.o", out.transpose(-2, -3).flatten(-2))
    y = F.layer_norm(x, (DIM,), eps=1e-6) * (1 + ffn_scale) + ffn_shift
    return x + linear("ffn.2", F.gelu(linear("ffn.0", y), approximate="tanh")) * ffn_gate


@pytest.mark.parametrize("naming", ["authors", "diffusers"])
def test_loaded_blocks_compute_what_wan_computes(naming, tmp_path):
    weights = checkpoint()
    if naming == "authors":
        write(tmp_path, weights)
    else:
        write(tmp_path / "transformer", renamed(weights))
    ours = model()
    ours.load_backbone(tmp_path)

    sigma = torch.tensor([[0.7]], dtype=torch.float64)
    half = torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(FREQUENCIES // 2) / (FREQUENCIES // 2))
    angle = 1000.0 * sigma * half
    time = torch.cat([angle.cos(), angle.sin()], dim=-1)[0]

    def linear(name, y):
        return F.linear(y, weights[f"{name}.weight"], weights[f"{name}.bias"])

    embedded = linear("time_embedding.2", F.silu(linear("time_embedding.0", time)))
    six = linear("time_projection.1", F.silu(embedded)).unflatten(-1, (6, DIM))
    text = torch.randn(1, 4, TEXT, dtype=torch.float64)
    read = linear("text_embedding.2", F.gelu(linear("text_embedding.0", text), approximate="tanh"))
    positions = grid_positions(1, 2, 3, 4.0)
    x = theirs = torch.randn(1, 6, DIM, dtype=torch.float64)
    for i in range(LAYERS):
        theirs = wan_block(weights, i, theirs, six, read, positions)

    with torch.no_grad():
        rotation = Rotation(*rotary(positions, DIM // HEADS))
        _, modulation = ours.video_time(1.0 - sigma)
        mine = x[:, None]
        for block in ours.blocks:
            m = block.modulation(modulation)
            (projected,) = block.project([mine], [m], [rotation])
            (mine,) = block.merge([mine], [attend(projected.queries, projected.own)], [m])
            (mine,) = block.express([mine], [m], block.text_memory(ours.text_in(text)))
    torch.testing.assert_close(mine[:, 0], theirs, rtol=1e-6, atol=1e-6)


def test_the_report_accounts_for_every_tensor_of_both_sides(tmp_path):
    weights = checkpoint()
    write(tmp_path, weights)
    ours = model()
    before = {name: w.clone() for name, w in ours.state_dict().items()}
    report = ours.load_backbone(tmp_path)
    used = {source for sources in report.loaded.values() for source in sources}
    assert used | set(report.unused) == set(weights) and not used & set(report.unused)
    assert set(report.loaded) | set(report.unfilled) | set(report.own) == set(before)
    assert not report.unfilled
    assert set(report.unused) == {"patch_embedding.weight", "patch_embedding.bias", "head.head.weight", "head.head.bias"}
    for name, w in ours.state_dict().items():
        assert torch.equal(w, before[name]) == (name in report.own), name
    assert "not used: head.head.bias (belongs to Wan's VAE)" in str(report)


def test_what_does_not_fit_is_named_and_left_as_it_was(tmp_path):
    weights = checkpoint()
    weights["blocks.1.ffn.0.weight"] = torch.zeros(FFN + 2, DIM)
    del weights["blocks.0.cross_attn.v.weight"]
    weights["blocks.7.norm3.weight"] = torch.zeros(DIM)
    write(tmp_path, weights)
    ours = model()
    before = ours.state_dict()["blocks.1.expand.weight"].clone()
    report = ours.load_backbone(tmp_path)
    assert report.unfilled == {
        "blocks.1.expand.weight": f"[{FFN + 2}, {DIM}] instead of [{FFN}, {DIM}]",
        "blocks.0.text_key_value.weight": "the checkpoint lacks blocks.0.cross_attn.v.weight",
    }
    assert report.unused["blocks.7.norm3.weight"] == "this model has no such tensor"
    assert "instead of" in report.unused["blocks.1.ffn.0.weight"]
    assert "blocks.0.cross_attn.k.weight" in report.unused
    assert torch.equal(ours.state_dict()["blocks.1.expand.weight"], before)


def test_folders_that_hold_no_wan_are_refused(tmp_path):
    with pytest.raises(LearnerError, match=r"no \*\.safetensors in"):
        model().load_backbone(tmp_path)
    write(tmp_path, {"something.else": torch.zeros(2)}, shards=1)
    with pytest.raises(LearnerError, match="holds no Wan transformer"):
        model().load_backbone(tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(LearnerError, match="is no safetensors file"):
        model().load_backbone(tmp_path)


def test_a_tensor_in_two_shards_is_refused_and_both_are_named(tmp_path):
    weights = checkpoint()
    save_file(weights, tmp_path / "one.safetensors")
    save_file({"head.head.bias": weights["head.head.bias"] + 1.0}, tmp_path / "two.safetensors")
    with pytest.raises(LearnerError, match=r"head.head.bias is in one.safetensors and in two.safetensors"):
        model().load_backbone(tmp_path)
