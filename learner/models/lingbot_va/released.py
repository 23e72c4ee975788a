"""The weights that the authors of LingBot-VA released: names of their tensors, and where they go in this model.

They extend a diffusers checkpoint of Wan: a linear projection of patches, projections of actions, and a flow-time embedding of
actions. Frames and actions share the modulation of the output heads. Cameras are told apart by where they lie in one composed
picture, and actions by their rotary times alone, so the embeddings that this model adds are set to zero.
"""

from __future__ import annotations

from learner.backbone.wan_weights import DIFFUSERS, Released, StoredRows, patch_columns, time_plan
from learner.models.lingbot_va.config import LingbotConfig

_ACTIONS = "condition_embedder_action"


def released(config: LingbotConfig) -> Released:
    """What the released checkpoint holds beside Wan's blocks."""
    of_actions = {key: name.replace("condition_embedder", _ACTIONS) for key, name in DIFFUSERS.items()}
    plan = {
        "video_in.weight": StoredRows(("patch_embedding_mlp.weight",), arranged=patch_columns),
        "video_in.bias": StoredRows(("patch_embedding_mlp.bias",)),
        "action_out.table": StoredRows((DIFFUSERS["head_table"],)),
        **time_plan("action_time", of_actions),
    }
    for ours, theirs in (
        ("action_in", "action_embedder"),
        ("video_out.output", "proj_out"),
        ("action_out.output", "action_proj_out"),
    ):
        plan |= {f"{ours}.{kind}": StoredRows((f"{theirs}.{kind}",)) for kind in ("weight", "bias")}
    return Released(
        title="LingBot-VA",
        mark="action_embedder.weight",
        plan=plan,
        idle={f"{_ACTIONS}.text_embedder.": "a copy that the authors' code does not read"},
        silenced=("view", "where.weight", "where.bias", "place"),
        is_wanted=config.released,
    )
