"""The weights that the authors of X-WAM released: names of their tensors, and where they go in this model.

They extend a Wan checkpoint in the authors' naming: view embeddings, two-layer projections of actions and states, and copies of the
last blocks for depth. Positions in the picture are told by rotary embeddings alone, so the embedding that this model adds is set to
zero.
"""

from __future__ import annotations

from torch import Tensor

from learner.backbone.wan_weights import AUTHORS, Released, StoredRows, block_plan, patch_columns
from learner.models.x_wam.config import XwamConfig


def released(config: XwamConfig) -> Released:
    """What the released checkpoint holds beside Wan's blocks."""
    plan = {
        "video_in.weight": StoredRows(("patch_embedding.weight",), arranged=patch_columns),
        "video_in.bias": StoredRows(("patch_embedding.bias",)),
        "view": StoredRows(("view_embedding.weight",), arranged=_views),
    }
    linear = [("video_out.output", "head.head")]
    for kind in ("action", "proprio"):
        linear += [(f"{kind}_in.{index}", f"{kind}_encoder.{index}") for index in (0, 2)]
        linear += [(f"{kind}_out.layers.{index}", f"{kind}_decoder.{index}") for index in (0, 2)]
    if config.depth:
        plan["depth.head.table"] = StoredRows(("extra_heads.0.modulation",))
        linear.append(("depth.head.output", "extra_heads.0.head"))
        for index in range(config.depth):
            plan |= block_plan(f"depth.blocks.{index}", f"extra_blocks.0.{index}", AUTHORS)
    for ours, theirs in linear:
        plan |= {f"{ours}.{kind}": StoredRows((f"{theirs}.{kind}",)) for kind in ("weight", "bias")}
    return Released(
        title="X-WAM",
        mark="action_encoder.0.weight",
        plan=plan,
        silenced=("where.weight", "where.bias"),
        is_wanted=config.released,
    )


def _views(weight: Tensor) -> Tensor:
    """View embeddings [V, D] in the layout of this model, [V, 1, D]."""
    return weight.unsqueeze(1)
