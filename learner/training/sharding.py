"""Shards a model over devices, each of which holds a slice of every weight (FSDP2)."""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from learner.models.world_model import WorldModel


def shard(model: WorldModel, mesh: DeviceMesh, precision: MixedPrecisionPolicy | None = None) -> None:
    """Shards the weights of `model` in place over a one-dimensional `mesh`. A collective; afterwards only `losses` may be called.

    Each of `model.shards()` is gathered separately, then the remaining weights together (Zhao et al. 2023, "PyTorch FSDP").
    """
    policy = precision or MixedPrecisionPolicy()
    # Innermost modules first: fully_shard(model) groups only the parameters that no earlier call has taken.
    for part in (*model.shards(), model):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    # FSDP gathers weights in a hook of `forward`, but training calls `losses`: give it the same hook.
    register_fsdp_forward_method(model, "losses")
