"""Trajectories for gateways, and what has become of them."""

from ring_parts import is_whole, trajectory_spec, write

from embodichain.errors import RingTimeout
from embodichain.ring.gateway import Parcel
from embodichain.ring.ring import Ring
from embodichain.types import TrajectoryId


def named(sequence: int, *, worker: int = 3, epoch: int = 1) -> TrajectoryId:
    return TrajectoryId(worker=worker, epoch=epoch, sequence=sequence)


def made(identity: TrajectoryId):
    arrays = trajectory_spec().allocate()
    write(arrays, identity.pack())
    return arrays


def drain(ring: Ring) -> list[int]:
    ids = []
    while True:
        try:
            with ring.sample(1, 0.0) as batch:
                assert is_whole(batch[0])
                ids.append(batch[0].trajectory_id)
        except RingTimeout:
            return ids


def batch(*numbers: int) -> list[Parcel]:
    return [Parcel(made(named(number)), named(number)) for number in numbers]
