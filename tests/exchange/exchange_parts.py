"""Trajectories, rings and folders that the tests of exchange share: smooth pictures and motions, in a ring that a process reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from embodichain import robots
from embodichain.motion.action import ActionCodec
from embodichain.ring.ledger import Ledger
from embodichain.ring.ring import Ring
from embodichain.types import LEDGER_FILE, RING_FILE, RingSpec, TrajectoryId, TrajectoryInfo, camera_spec, write_text

ROOT = Path(__file__).parents[2]
ROBOT = robots.get("dual_piper")
CODEC = ActionCodec(ROBOT)


def schema(*, chunk=16, size=32, horizon=12):
    """Of a stream of that robot's pictures."""
    return camera_spec(cameras=len(ROBOT.cameras), height=size, width=size, horizon=horizon, chunk=chunk)


def write(out, spec, number):
    """Writes trajectory `number` into the arrays of a slot: a plane of colours that turns, joints that swing, all of it known."""
    rng = np.random.default_rng(number)
    chunks = int(rng.integers(3, spec.horizon + 1))
    _, cameras, height, width, _ = spec.field("rgb").shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    for name in out:
        if name not in ("info", "instruction", "trajectory_id"):
            out[name][...] = 0
    for frame in range(chunks + 1):
        for camera in range(cameras):
            angle = 0.3 * frame + camera + number
            planes = [np.cos(angle) * x + np.sin(angle) * y, np.sin(angle) * x, np.cos(angle + 1) * y]
            out["rgb"][frame, camera] = np.stack([127 + 120 * plane for plane in planes], axis=-1).clip(0, 255)
    time = np.arange(chunks * spec.chunk + 1)[:, None] / ROBOT.control_hz
    commands = ROBOT.home + 0.1 * np.sin(time + rng.uniform(0, 6, ROBOT.command_size))
    out["action"][:chunks] = CODEC.encode(commands[:-1]).reshape(chunks, spec.chunk, -1)
    out["proprio"][: chunks + 1] = CODEC.encode(commands[:: spec.chunk] - 0.01)
    out["action_mask"][:] = CODEC.mask
    out["segment"][:chunks] = np.arange(chunks) % 3
    out["num_chunks"][()] = chunks
    info = TrajectoryInfo(
        task=f"task_{number % 2}",
        robot=ROBOT.name,
        physics="mujoco",
        scene_seed=number,
        worker=0,
        engine_version="0",
        assets={"switch": f"hash{number % 2}"},
        expansion={"size": 1.0},
        success=True,
        reason="done",
        recovered=True,
    )
    write_text(out["info"], info.encode())
    write_text(out["instruction"], f"Turn switch {number % 3} on.".encode())
    out["trajectory_id"][()] = TrajectoryId(worker=1, epoch=0, sequence=number).pack()


def recording(number, spec):
    """Private arrays of trajectory `number`."""
    out = spec.allocate()
    write(out, spec, number)
    return out


def fill(ring, numbers):
    """Publishes these trajectories."""
    for number in numbers:
        with ring.reserve(timeout_s=5.0) as slot:
            write(slot, ring.spec.trajectory, number)


def begin_run(folder, spec, *, slots=16, max_reads=10):
    """A run's folder as an export finds it while the run goes on, and the ring of that run, owned by this process."""
    ring = Ring.create(RingSpec(trajectory=spec, num_slots=slots, max_reads=max_reads))
    folder.mkdir(parents=True)
    (folder / RING_FILE).write_text(str(ring.path))
    (folder / "config.yaml").write_text(json.dumps({"world": {"robot": "dual_piper"}}))
    with Ledger.open(folder / LEDGER_FILE) as ledger:
        ledger.bound(max_reads)
    return ring


def start(*arguments):
    """Begins a command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "embodichain.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(process, *, timeout):
    """What a command said on both of its streams; one that does not end by itself is killed, and that is a failure."""
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def episodes_in(folder):
    """How many episodes a LeRobot folder says it has."""
    path = folder / "meta/info.json"
    return json.loads(path.read_text())["total_episodes"] if path.exists() else 0
