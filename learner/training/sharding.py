"""How several devices share one model: replicated (DDP), or each holding a slice of every weight (FSDP2)."""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from learner.models.world_model import WorldModel


def shard(model: WorldModel, mesh: DeviceMesh, precision: MixedPrecisionPolicy | None = None) -> None:
    """Slices the weights of `model` in place over a one-dimensional `mesh`; only `losses` may be called from then on.

    Each of its `shards` and the rest are gathered apart (Zhao et al. 2023, "PyTorch FSDP"). A collective.
    """
    policy = precision or MixedPrecisionPolicy()
    for part in (*model.shards(), model):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "losses")
