"""One store in one process of its own venv: opens, proves its content, and reads against the clock as a pipe of JSON lines asks.

    peer.py ring|reverb|torchrl|ray

Asked {"open": MiB}, {"read": seconds}, {"close": true}; each is answered with one line. All stores do the same job: one process
writes trajectories, this one draws two at random and sums every word of them, and each is read about ten times.
"""

from __future__ import annotations

import json
import os
import sys
import time

from content import BATCH, Content
from stores import STORES, Store

MIB = 1 << 20


def slots_for(size_mib: int) -> int:
    return 16 if size_mib < 32 else 8


def check(store: Store, content: Content) -> None:
    """Refuses to time a store that hands out anything but what was put in, or the same trajectory for ever."""
    seen: set[int] = set()
    for _ in range(30):
        for found in store.draw():
            if not content.is_whole(found):
                sys.exit("a trajectory came out different from what went in")
            seen.add(int(found[0]))
    if len(seen) < 2 * BATCH:
        sys.exit(f"only {len(seen)} different trajectories in {30 * BATCH} reads")


def read(store: Store, content: Content, seconds: float) -> float:
    """Samples read in full per second."""
    for _ in range(5):
        store.draw()
    reads, wrong = 0, 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for found in store.draw():
            wrong += not content.is_summed_right(found)
            reads += 1
    if wrong:
        sys.exit(f"{wrong} of {reads} reads did not sum up while timed")
    return reads / elapsed


def bare(content: Content, num_blocks: int, seconds: float = 0.3) -> float:
    """The ceiling: full reads per second of as much private memory as the store has slots, by this interpreter without a store."""
    blocks = [content.base.copy() for _ in range(num_blocks)]
    reads, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        content.is_summed_right(blocks[reads % num_blocks])
        reads += 1
    return reads / elapsed


def main() -> None:
    # The answers' pipe is kept apart: what the stores print goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    kind = STORES[sys.argv[1]]
    store, content = None, Content(1)
    for line in sys.stdin:
        ask = json.loads(line)
        answer: dict = {}
        if "open" in ask:
            content = Content(ask["open"] * MIB // 8)
            store = kind(content, slots_for(ask["open"]))
            check(store, content)
            answer = {"version": store.version, "bare": bare(content, slots_for(ask["open"]))}
        elif store is not None and "read" in ask:
            answer = {"samples_per_s": read(store, content, ask["read"])}
        elif store is not None:
            store.close()
            store = None
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
