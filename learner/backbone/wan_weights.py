"""Loads the backbone from a local checkpoint of Wan2.2-TI2V-5B (or another Wan with the same block), and reports every tensor.

The same weights exist under two sets of names: the authors' (`blocks.0.self_attn.q`) and diffusers' (`blocks.0.attn1.to_q`).
Wan's rotary embedding rotates neighbouring channels, this model's rotates channels i and i + d / 2 of a head. The rows of the query
and key projections are therefore permuted, which leaves their dot products unchanged. Of Wan itself, patch embedding and final
projection are not loaded, because they belong to its VAE's latents. What this model adds (actions, proprioception, memory) keeps
its initialisation. Models that others trained from Wan have more of a model's tensors: a family names them by a `Released`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError
from learner.backbone.tensor_files import TensorFiles, tensor_files


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
    is_whole: bool = False
    """Whether the checkpoint was that of a released model of this architecture, not Wan's."""

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded, {len(self.own)} are this model's own"]
        lines += [f"not filled: {name} ({reason})" for name, reason in sorted(self.unfilled.items())]
        lines += [f"not used: {name} ({reason})" for name, reason in sorted(self.unused.items())]
        return "\n".join(lines)


AUTHORS = {
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
DIFFUSERS = {
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
_PATCH = 2
"""Side of the patches of latents that Wan makes one token of."""
_OF_THE_VAE = ("patch_embedding.", "proj_out.", "head.head.")


def _same(whole: Tensor) -> Tensor:
    return whole


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Checkpoint tensors whose rows, concatenated, make one tensor of the model."""

    names: tuple[str, ...]
    turned: int = 0
    """How many of them, from the first, are query or key projections under the rotary embedding: their rows are permuted."""
    arranged: Callable[[Tensor], Tensor] = _same
    """Brings the concatenated tensor into the layout of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The tensors that a model trained from Wan has beside Wan's. All of its tensors must fit, and no other may be in the file."""

    title: str
    """Name of the model, for messages."""
    mark: str
    """A tensor by which such a checkpoint is told from Wan itself."""
    plan: Mapping[str, StoredRows]
    """What fills the model's further tensors, and replaces what `load_wan` would take for some."""
    idle: Mapping[str, str] = field(default_factory=dict)
    """Beginnings of names that the model's own code does not use either, with the reason."""
    silenced: tuple[str, ...] = ()
    """Tensors that only this project's model has and that add to tokens: they are set to zero, so that they change nothing."""
    is_wanted: bool = True
    """Whether the model is laid out as the released one; if not, such a checkpoint is refused."""


def load_wan(
    model: nn.Module, folder: Path | str, *, heads: int, times: Sequence[str], head: str, released: Released | None = None
) -> LoadReport:
    """Fills the backbone of `model` in place from all `*.safetensors` in `folder`, or in its subfolder `transformer`.

    Tensors are read one at a time. If the checkpoint is that of `released`, its further tensors are loaded too. Raises LearnerError
    when the folder holds no such checkpoint, or a released one that does not fit the model tensor for tensor, and ConfigError for a
    released one that the model is not laid out for. After an error the model may be partly filled.

    Args:
        model: has `blocks` of `layers.Block` and the projection `text_in` of text tokens.
        folder: of the checkpoint.
        heads: number of attention heads in a block.
        times: names of the model's flow-time embeddings; each is initialised from Wan's single one.
        head: name of the output head that takes over the modulation of Wan's head.
        released: the model that others trained from Wan with the architecture of `model`, if there is one.
    """
    files = tensor_files(Path(folder), "Wan2.2-TI2V-5B" if released is None else f"Wan2.2-TI2V-5B or {released.title}")
    state = model.state_dict()
    plan = _plan(_num_blocks(state), _naming(files, Path(folder)), times, head)
    whole_model = released if released is not None and released.mark in files else None
    if whole_model is not None:
        if not whole_model.is_wanted:
            raise ConfigError(
                f"{folder} holds the released weights of {whole_model.title} ({whole_model.mark}), whose layout differs from this "
                "model's: set learner.agent.model.released true"
            )
        plan |= whole_model.plan
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
            whole = source.arranged(torch.cat(parts))
            if whole.ndim == 3 and whole.shape[0] == 1 and whole.shape != state[name].shape:
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
    if whole_model is not None:
        _insist(whole_model, folder, unfilled, unused)
        for name in whole_model.silenced:
            state[name].zero_()
    own = tuple(name for name in state if name not in plan)
    return LoadReport(loaded=loaded, unfilled=unfilled, unused=unused, own=own, is_whole=whole_model is not None)


def _insist(released: Released, folder: Path | str, unfilled: Mapping[str, str], unused: dict[str, str]) -> None:
    """Raises LearnerError, listing tensors, unless all of a released model was used; gives idle tensors their reasons."""
    for name in unused:
        unused[name] = next((why for start, why in released.idle.items() if name.startswith(start)), unused[name])
    problems = [f"{name} is not filled: {reason}" for name, reason in sorted(unfilled.items())]
    reasons = set(released.idle.values())
    problems += [f"{name} is not used: {why}" for name, why in sorted(unused.items()) if why not in reasons]
    if problems:
        shown = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise LearnerError(
            f"the weights of {released.title} in {folder} do not fit this model: {shown}; give model, text and codec the sizes "
            "that the checkpoint's config.json names (codec wan with merge 2 has its 192 channels), or a complete checkpoint"
        )


def patch_columns(weight: Tensor) -> Tensor:
    """Columns of a projection of patches [D, c x p x p] or [D, c, 1, p, p], from order (channel, row, column) to (row, column,
    channel), which is that of latents merged by `EncoderConfig.merge` = p = 2. Another shape is only flattened.
    """
    flat = weight.flatten(1)
    if flat.shape[1] % _PATCH**2:
        return flat
    return flat.unflatten(1, (-1, _PATCH**2)).transpose(1, 2).flatten(1)


def in_halves(rows: Tensor, heads: int) -> Tensor:
    """Permutes rows of a query or key projection [heads x d, ...] so that each head has its even channels first, then its odd ones.

    The head width must be even. A tensor whose rows are no multiple of `heads` is returned as it is; the shape check reports it.
    """
    if rows.shape[0] % (2 * heads):
        return rows
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _num_blocks(state: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("blocks.")})


def _plan(num_blocks: int, naming: Mapping[str, str], times: Sequence[str], head: str) -> dict[str, StoredRows]:
    """Which checkpoint tensors fill which tensor of the model."""
    plan: dict[str, StoredRows] = {}
    for index in range(num_blocks):
        plan |= block_plan(f"blocks.{index}", f"blocks.{index}", naming)
    for kind in ("weight", "bias"):
        for name in ("text_in.0", "text_in.2"):
            plan[f"{name}.{kind}"] = StoredRows((f"{naming[name]}.{kind}",))
    for modality in times:
        plan |= time_plan(modality, naming)
    plan[f"{head}.table"] = StoredRows((naming["head_table"],))
    return plan


def time_plan(modality: str, naming: Mapping[str, str]) -> dict[str, StoredRows]:
    """Which checkpoint tensors fill the flow-time embedding called `modality`."""
    names = (f"{name}.{kind}" for name in ("embed.0", "embed.2", "project.1") for kind in ("weight", "bias"))
    return {f"{modality}.{name}": StoredRows((f"{naming[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}",)) for name in names}


def block_plan(ours: str, theirs: str, naming: Mapping[str, str]) -> dict[str, StoredRows]:
    """Which tensors of the checkpoint's block `theirs` fill those of the model's block `ours`."""
    plan: dict[str, StoredRows] = {}
    own, cross = f"{theirs}.{naming['self']}", f"{theirs}.{naming['cross']}"
    for kind in ("weight", "bias"):
        q, k, v, o = (f"{naming[x]}.{kind}" for x in "qkvo")
        plan[f"{ours}.query_key_value.{kind}"] = StoredRows((f"{own}.{q}", f"{own}.{k}", f"{own}.{v}"), turned=2)
        plan[f"{ours}.output.{kind}"] = StoredRows((f"{own}.{o}",))
        plan[f"{ours}.text_query.{kind}"] = StoredRows((f"{cross}.{q}",))
        plan[f"{ours}.text_key_value.{kind}"] = StoredRows((f"{cross}.{k}", f"{cross}.{v}"))
        plan[f"{ours}.text_output.{kind}"] = StoredRows((f"{cross}.{o}",))
        for name in ("text_norm", "expand", "contract"):
            plan[f"{ours}.{name}.{kind}"] = StoredRows((f"{theirs}.{naming[name]}.{kind}",))
    plan[f"{ours}.query_norm.weight"] = StoredRows((f"{own}.norm_q.weight",), turned=1)
    plan[f"{ours}.key_norm.weight"] = StoredRows((f"{own}.norm_k.weight",), turned=1)
    plan[f"{ours}.text_query_norm.weight"] = StoredRows((f"{cross}.norm_q.weight",))
    plan[f"{ours}.text_key_norm.weight"] = StoredRows((f"{cross}.norm_k.weight",))
    plan[f"{ours}.table"] = StoredRows((f"{theirs}.{naming['table']}",))
    return plan


def _naming(files: TensorFiles, folder: Path) -> Mapping[str, str]:
    for naming in (AUTHORS, DIFFUSERS):
        if f"blocks.0.{naming['self']}.{naming['q']}.weight" in files:
            return naming
    some = ", ".join(sorted(files)[:5])
    raise LearnerError(
        f"{folder} holds no Wan transformer: neither blocks.0.self_attn.q.weight nor blocks.0.attn1.to_q.weight among its "
        f"{len(files)} tensors ({some}, ...)"
    )
