"""Refactoring moves no robot: the policy that ships gives the chunks for stored observations that it gave when it was shipped.

On a processor and torch of the recorded kind they are equal to the last bit; elsewhere sums round in another order. They were
recorded before the model had a seam to other families: `python tests/learner/test_shipped_chunk.py` records them again.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_golden import machine

from learner.inference.background import make_policy
from learner.inference.config import SaiConfig
from learner.inference.policy_file import load_agent
from learner.runs.locate import find

RECORDED = Path(__file__).with_name("shipped_chunks.json")
MODES = {"synchronous": None, "speculated": SaiConfig(s_mid=0.5)}
FRAMES = 6
"""More than the model remembers: its memory starts afresh on the way."""


def chunks(mode: str) -> np.ndarray:
    """Those of seeded pictures and states, one after another, float32 [frames, 16, 30]."""
    rng = np.random.default_rng(20261130)
    observations = [
        (rng.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8), (0.3 * rng.standard_normal(30)).astype(np.float32))
        for _ in range(FRAMES)
    ]
    policy = make_policy(load_agent(find(Path("builtin:turn_switch")).checkpoint), MODES[mode], seed=5)
    policy.begin("turn the switch")
    found = np.stack([policy.act(rgb, state) for rgb, state in observations])
    policy.close()
    return found


def digest(found: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(found, np.float32).tobytes()).hexdigest()


@pytest.mark.parametrize("mode", MODES)
def test_the_shipped_policy_gives_the_chunks_that_it_always_gave(mode):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = chunks(mode)
    finally:
        torch.set_num_threads(threads)
    recorded = json.loads(RECORDED.read_text())
    np.testing.assert_allclose(found[-1], np.array(recorded[mode]["last"], np.float32), atol=2e-3)
    if recorded["machine"] == machine():
        assert digest(found) == recorded[mode]["sha256"], "on the machine that recorded them: to the last bit"


def record() -> None:
    """Writes the chunks of this machine."""
    torch.set_num_threads(1)
    found = {mode: chunks(mode) for mode in MODES}
    values = {
        mode: {"sha256": digest(array), "last": np.round(array[-1].astype(float), 6).tolist()} for mode, array in found.items()
    }
    RECORDED.write_text(json.dumps({"machine": machine(), **values}) + "\n")


if __name__ == "__main__":
    record()
