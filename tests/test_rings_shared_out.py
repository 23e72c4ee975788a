"""A run may go on with another number of rings than it had: every scene is made once, whichever ring's share it is then."""

import json
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodichain.config import WorldConfig
from embodichain.engine import EngineReport, Numbers, Share, Start
from embodichain.prepare import prepare
from embodichain.ring.ledger import Event, Ledger, load
from embodichain.ring.proof import ledgers
from embodichain.stages import Fate
from embodichain.types import RingSpec, Timings, TrajectoryId
from learner.records.run_folder import RunFolder
from learner.runs.lives import begin, joined, of_ring

END = 60


def taken(numbers: Numbers) -> list[int]:
    return list(iter(numbers.take, None))


@given(st.integers(1, 7), st.integers(0, 50))
def test_shares_are_disjoint_and_make_up_the_stream_in_order(rings, limit):
    parts = [taken(Numbers(Start(), limit, Share(index=index, of=rings))) for index in range(rings)]
    assert sorted(chain.from_iterable(parts)) == list(range(limit))
    assert all(a < b for part in parts for a, b in pairwise(part))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_engines_of_one_run_have_done_is_added_up():
    one, other = EngineReport(chunks=3, crashed=(4,), timings=Timings(physics_s=1.0)), EngineReport(chunks=2, crashed=(7,))
    one.fates[Fate.PUBLISHED] += 2
    other.fates[Fate.PUBLISHED] += 3
    one.instances["mug"] = {"name": "mug", "scenes": 2}
    other.instances |= {"mug": {"name": "mug", "scenes": 1}, "pan": {"name": "pan", "scenes": 1}}
    both = EngineReport.together([one, other])
    assert (both.published, both.chunks, both.crashed, both.timings.physics_s) == (5, 5, (4, 7), 1.0)
    assert {name: known["scenes"] for name, known in both.instances.items()} == {"mug": 3, "pan": 1}
    assert EngineReport.together([one]).plain() == one.plain()


@pytest.fixture(scope="module")
def spec() -> RingSpec:
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=4), lambda name, done, total: None)
    return RingSpec(trajectory=world.trajectory_spec, num_slots=2, max_reads=3)


@pytest.mark.parametrize(("before", "now"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (2, 5)])
def test_rings_that_come_or_go_leave_no_scene_out_and_none_is_made_twice(tmp_path, spec, before, now, no_shared_memory_left):
    """From a checkpoint without snapshots: what was in the rings is given up, and counts as made."""
    rng, folder = np.random.default_rng(before * 10 + now), RunFolder.create(tmp_path / "run")
    accounted, states, given_up = set[int](), [], {}
    for index in range(before):
        share = range(index, END, before)
        reached = int(rng.integers(2, len(share)))
        begun, unfinished = share[reached], sorted(rng.choice(share[:reached], 2, replace=False).tolist())
        # One that is in the ring was reported, one not yet, and one was begun after the engine was asked for its state.
        there = [number for number in share[:reached] if number not in unfinished][:1] + unfinished[:1] + [begun]
        ready = {TrajectoryId(worker=0, sequence=number, epoch=index).pack(): 2 for number in there}
        given_up |= ready
        accounted |= {number for number in share[:reached] if number not in unfinished} | set(there)
        report = EngineReport()
        report.fates[Fate.PUBLISHED] += reached - 2
        with Ledger.open(RunFolder(path=folder.path, number=index).ledger) as ledger:
            ledger.bound(3)
            ledger.life(index, step=0)
        states.append(
            {
                "leases": 7,
                "next_number": begun,
                "unfinished": unfinished,
                "report": report.plain(),
                "epoch": index,
                "ring": {"snapshot": "", "ready": [*ready.items()]},
            }
        )
    texts = [json.dumps(state) for state in states]
    state = joined(states[0], lambda own: [own, *texts[1:]]) if before > 1 else states[0]
    assert [of_ring(state, index) for index in range(before)] == [json.loads(texts[0]) | states[0], *map(json.loads, texts[1:])]

    def lives(told: list[str]):
        said = []
        for index in range(now):
            own = RunFolder(path=folder.path, number=index)

            def exchange(text: str) -> list[str]:
                said.append(text)
                return told or [text]

            life = begin(spec, "host", own, state, share=Share(index=index, of=now), exchange=exchange)
            life.ring.close()
            yield life, own
        told[:] = said

    told: list[str] = []
    list(lives(told))
    begun = list(lives(told))
    made = [taken(Numbers(life.start, END, Share(index=index, of=now))) for index, (life, _) in enumerate(begun)]
    assert sorted([*accounted, *chain.from_iterable(made)]) == list(range(END))
    assert sum(life.start.report.published for life, _ in begun) == len(accounted)
    for life, own in begun:
        with Ledger.open(own.ledger) as ledger:
            life.book(ledger)
    booked = {}
    for book in ledgers(folder.path):
        records, _ = load(book)
        gone = records[records["event"] == Event.GIVEN_UP]
        booked |= dict(zip(gone["trajectory_id"].tolist(), gone["read_index"].tolist(), strict=True))
        assert int(records["step"][records["event"] == Event.LIFE][-1]) == 7, "each ring's ledger says from where it goes on"
    assert booked == given_up
