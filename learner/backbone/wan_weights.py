"""Loads the backbone from a local checkpoint of Wan2.2-TI2V-5B (or another Wan with the same block), and reports every tensor.

The same weights exist under two sets of names: the authors' (`blocks.0.self_attn.q`) and diffusers' (`blocks.0.attn1.to_q`).
Wan's rotary embedding rotates neighbouring channels, this model's rotates channels i and i + d / 2 of a head. The rows of the query
and key projections are therefore permuted, which leaves their dot products unchanged. Wan's patch embedding and final projection
are not loaded, because they belong to its VAE's latents. What this model adds (actions, proprioception, memory) keeps its
initialisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from embodichain.errors import LearnerError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What happened to every tensor of the checkpoint and of the model, by name."""

    loaded: Mapping[str, tuple[str, ...]]
    """Model tensors that were loaded, each with the checkpoint tensors that it was made from."""
    unfilled: Mapping[str, str]
    """Model tensors that a Wan checkpoint should have filled and this one did not, with the reason."""
    unused: Mapping[str, str]
    """Checkpoint tensors that were not used, with the reason."""
    own: tuple[str, ...]
    """Model tensors that no Wan checkpoint has."""

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded, {len(self.own)} are this model's own"]
        lines += [f"not filled: {name} ({reason})" for name, reason in sorted(self.unfilled.items())]
        lines += [f"not used: {name} ({reason})" for name, reason in sorted(self.unused.items())]
        return "\n".join(lines)


_AUTHORS = {
    "self": "self_attn",
    "cross": "cross_attn",
    "q": "q",
    "k": "k",
    "v": "v",
    "o": "o",
    "table": "modulation",
    "text_norm": "norm3",
    "expand": "ffn.0",
    "contract": "ffn.2",
    "text_in.0": "text_embedding.0",
    "text_in.2": "text_embedding.2",
    "embed.0": "time_embedding.0",
    "embed.2": "time_embedding.2",
    "project.1": "time_projection.1",
    "head_table": "head.modulation",
}
_DIFFUSERS = {
    "self": "attn1",
    "cross": "attn2",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "o": "to_out.0",
    "table": "scale_shift_table",
    "text_norm": "norm2",
    "expand": "ffn.net.0.proj",
    "contract": "ffn.net.2",
    "text_in.0": "condition_embedder.text_embedder.linear_1",
    "text_in.2": "condition_embedder.text_embedder.linear_2",
    "embed.0": "condition_embedder.time_embedder.linear_1",
    "embed.2": "condition_embedder.time_embedder.linear_2",
    "project.1": "condition_embedder.time_proj",
    "head_table": "scale_shift_table",
}
_OF_THE_VAE = ("patch_embedding.", "proj_out.", "head.head.")


@dataclass(frozen=True, slots=True)
class _Source:
    """Checkpoint tensors whose rows, concatenated, make one tensor of the model."""

    names: tuple[str, ...]
    turned: int = 0
    """How many of them, from the first, are query or key projections under the rotary embedding: their rows are permuted."""


def load_wan(model: nn.Module, folder: Path | str, *, heads: int, times: Sequence[str], head: str) -> LoadReport:
    """Fills the backbone of `model` in place from all `*.safetensors` in `folder`, or in its subfolder `transformer`.

    Tensors are read one at a time. Raises LearnerError when the folder holds no such checkpoint.

    Args:
        model: has `blocks` of `layers.Block` and the projection `text_in` of text tokens.
        folder: of the checkpoint.
        heads: number of attention heads in a block.
        times: names of the model's flow-time embeddings; each is initialised from Wan's single one.
        head: name of the output head that takes over the modulation of Wan's head.
    """
    files = _tensor_files(Path(folder))
    state = model.state_dict()
    plan = _plan(_num_blocks(state), _naming(files, Path(folder)), times, head)
    loaded: dict[str, tuple[str, ...]] = {}
    unfilled: dict[str, str] = {}
    used: set[str] = set()
    unused: dict[str, str] = {}
    with torch.no_grad():
        for name, source in plan.items():
            missing = [part for part in source.names if part not in files]
            if missing:
                unfilled[name] = f"the checkpoint lacks {', '.join(missing)}"
                unused |= dict.fromkeys(set(source.names) & files.keys(), f"the rest of {name} is missing")
                continue
            parts = [files[part](part) for part in source.names]
            parts = [in_halves(part, heads) if i < source.turned else part for i, part in enumerate(parts)]
            whole = torch.cat(parts)
            if whole.ndim == 3 and whole.shape[0] == 1:
                whole = whole[0]
            if whole.shape != state[name].shape:
                reason = f"{list(whole.shape)} instead of {list(state[name].shape)}"
                unfilled[name] = reason
                unused |= dict.fromkeys(source.names, f"{reason} for {name}")
                continue
            state[name].copy_(whole)
            loaded[name] = source.names
            used.update(source.names)
    for name in files:
        if name not in used and name not in unused:
            unused[name] = "belongs to Wan's VAE" if name.startswith(_OF_THE_VAE) else "this model has no such tensor"
    return LoadReport(loaded=loaded, unfilled=unfilled, unused=unused, own=tuple(name for name in state if name not in plan))


def in_halves(rows: Tensor, heads: int) -> Tensor:
    """Permutes rows of a query or key projection [heads x d, ...] so that each head has its even channels first, then its odd ones.

    The head width must be even. A tensor whose rows are no multiple of `heads` is returned as it is; the shape check reports it.
    """
    if rows.shape[0] % (2 * heads):
        return rows
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _num_blocks(state: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("blocks.")})


def _plan(num_blocks: int, naming: Mapping[str, str], times: Sequence[str], head: str) -> dict[str, _Source]:
    """Which checkpoint tensors fill which tensor of the model."""
    plan: dict[str, _Source] = {}
    for index in range(num_blocks):
        ours = theirs = f"blocks.{index}"
        own, cross = f"{theirs}.{naming['self']}", f"{theirs}.{naming['cross']}"
        for kind in ("weight", "bias"):
            q, k, v, o = (f"{naming[x]}.{kind}" for x in "qkvo")
            plan[f"{ours}.query_key_value.{kind}"] = _Source((f"{own}.{q}", f"{own}.{k}", f"{own}.{v}"), turned=2)
            plan[f"{ours}.output.{kind}"] = _Source((f"{own}.{o}",))
            plan[f"{ours}.text_query.{kind}"] = _Source((f"{cross}.{q}",))
            plan[f"{ours}.text_key_value.{kind}"] = _Source((f"{cross}.{k}", f"{cross}.{v}"))
            plan[f"{ours}.text_output.{kind}"] = _Source((f"{cross}.{o}",))
            for name in ("text_norm", "expand", "contract"):
                plan[f"{ours}.{name}.{kind}"] = _Source((f"{theirs}.{naming[name]}.{kind}",))
        plan[f"{ours}.query_norm.weight"] = _Source((f"{own}.norm_q.weight",), turned=1)
        plan[f"{ours}.key_norm.weight"] = _Source((f"{own}.norm_k.weight",), turned=1)
        plan[f"{ours}.text_query_norm.weight"] = _Source((f"{cross}.norm_q.weight",))
        plan[f"{ours}.text_key_norm.weight"] = _Source((f"{cross}.norm_k.weight",))
        plan[f"{ours}.table"] = _Source((f"{theirs}.{naming['table']}",))
    for kind in ("weight", "bias"):
        for name in ("text_in.0", "text_in.2"):
            plan[f"{name}.{kind}"] = _Source((f"{naming[name]}.{kind}",))
        for modality in times:
            for name in ("embed.0", "embed.2", "project.1"):
                plan[f"{modality}.{name}.{kind}"] = _Source((f"{naming[name]}.{kind}",))
    plan[f"{head}.table"] = _Source((naming["head_table"],))
    return plan


def _naming(files: Mapping[str, object], folder: Path) -> Mapping[str, str]:
    for naming in (_AUTHORS, _DIFFUSERS):
        if f"blocks.0.{naming['self']}.{naming['q']}.weight" in files:
            return naming
    some = ", ".join(sorted(files)[:5])
    raise LearnerError(
        f"{folder} holds no Wan transformer: neither blocks.0.self_attn.q.weight nor blocks.0.attn1.to_q.weight among its "
        f"{len(files)} tensors ({some}, ...)"
    )


def _tensor_files(folder: Path) -> dict[str, Callable[[str], Tensor]]:
    """For each tensor in the folder's safetensors files, a function that reads it."""
    inner = folder / "transformer"
    paths = sorted((inner if inner.is_dir() else folder).glob("*.safetensors"))
    if not paths:
        raise LearnerError(f"no *.safetensors in {folder} or {inner}: give the folder of a downloaded Wan2.2-TI2V-5B checkpoint")
    found: dict[str, Callable[[str], Tensor]] = {}
    homes: dict[str, Path] = {}
    for path in paths:
        try:
            file = safe_open(path, framework="pt")
            names = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise LearnerError(f"{path} is no safetensors file: {error}") from error
        for name in names:
            if name in homes:
                raise LearnerError(
                    f"the tensor {name} is in {homes[name].name} and in {path.name}, and only one can count: leave the shards of "
                    f"one checkpoint in {path.parent}"
                )
        homes |= dict.fromkeys(names, path)
        found |= dict.fromkeys(names, file.get_tensor)
    return found
