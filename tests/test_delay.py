"""A policy that takes time to decide: its chunks start late, whole, and it is told what was really executed."""

import numpy as np
import pytest

from embodichain import robots
from embodichain.errors import ConfigError
from embodichain.motion.action import ActionCodec
from embodichain.types import CHUNK, write_text
from learner.evaluation.episodes import PolicyPilot


class Counts:
    """Chunk c consists of the numbers 16 c, 16 c + 1, ... in joint channel 14; remembers what it was told."""

    chunk = CHUNK

    def __init__(self):
        self.told, self.chunks = [], 0

    def begin(self, instruction):
        assert instruction == "count"

    def act(self, rgb, proprio, executed=None):
        self.told.append(executed)
        chunk = np.zeros((CHUNK, 30), np.float32)
        chunk[:, 14] = CHUNK * self.chunks + np.arange(CHUNK)
        self.chunks += 1
        return chunk

    def close(self):
        pass


def played(delay: int, chunks: int = 3):
    codec = ActionCodec(robots.get("dual_piper"))
    policy = Counts()
    pilot = PolicyPilot(policy, codec, delay=delay)
    text = np.zeros(160, np.uint8)
    write_text(text, b"count")
    proprio = np.full(30, -1.0, np.float32)
    commands = []
    for _ in range(chunks):
        pilot.look({"rgb": np.zeros(1), "proprio": proprio, "instruction": text})
        commands += [pilot.command(None).command[0] for _ in range(CHUNK)]
    return commands, policy, pilot


@pytest.mark.parametrize("delay", [0, 4, 16])
def test_chunks_start_late_and_whole_and_the_robot_holds_still_before_the_first(delay):
    commands, policy, pilot = played(delay)
    assert commands[:delay] == [-1.0] * delay
    assert commands[delay:] == list(range(3 * CHUNK - delay)), "one chunk after the other, none cut"
    assert pilot.jumps == [1.0, 1.0], "from the last command of one to the first of the next"
    assert policy.told[0] is None
    for number, told in enumerate(policy.told[1:]):
        if delay:
            assert told[:, 14].tolist() == commands[number * CHUNK : (number + 1) * CHUNK]
        else:
            assert told is None, "what it returned was executed"


def test_a_delay_longer_than_a_chunk_is_refused():
    with pytest.raises(ConfigError, match=r"0\.\.16, got 17"):
        PolicyPilot(Counts(), None, delay=17)
