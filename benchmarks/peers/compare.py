"""How much faster is the ring than Reverb, TorchRL's memory-mapped buffer and Ray's object store? Samples read in full per second.

Each store lives in a process of its own venv and does the same job (see `peer.py`); after its content has been checked the stores
take turns, and each ratio is of neighbours in time. Prints one JSON object with the keys of `benchmarks/ring.py` beside
`over_reverb`, `over_torchrl`, `over_ray` (each by MiB; more than 1: the ring is faster) and `peers` (what lies behind them).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SIZES_MIB = (1, 8, 32)
MAIN, PEERS = ROOT / ".venv/bin/python", ROOT / ".venv-peers/bin/python"
VENVS = {"ring": MAIN, "ray": MAIN, "reverb": PEERS, "torchrl": PEERS}


class Peer:
    """A store behind a pipe."""

    def __init__(self, name: str) -> None:
        self.name = name
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._log = Path(f"/tmp/peer-{os.getpid()}-{name}.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [VENVS[name], HERE / "peer.py", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Waits for the answer; ends the benchmark with the peer's last words when there is none."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        try:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            return json.loads(stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            sys.exit(f"{self.name} failed at {question}:\n{self._log.read_text()[-3000:]}")

    def end(self) -> None:
        """Lets the process end."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.unlink()


def compare(size_mib: int, peers: list[Peer], repeats: int, seconds: float) -> dict[str, Any]:
    """Medians over interleaved repeats: samples per second of each store, the ring over each peer, and the spread of that."""
    opened = {peer.name: peer.ask(open=size_mib) for peer in peers}
    rates: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for repeat in range(repeats):
        order = peers if repeat % 2 == 0 else peers[::-1]
        for peer in order:
            rates[peer.name].append(peer.ask(read=seconds)["samples_per_s"])
    for peer in peers:
        peer.ask(close=True)
    over = {name: sorted(ring / other for ring, other in zip(rates["ring"], rates[name], strict=True)) for name in rates}
    return {
        "samples_per_s": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "over": {name: round(statistics.median(values), 2) for name, values in over.items() if name != "ring"},
        "spread": {name: [round(values[0], 2), round(values[-1], 2)] for name, values in over.items() if name != "ring"},
        "bare_reads_per_s": {name: round(answer["bare"], 1) for name, answer in opened.items()},
        "versions": {name: answer["version"] for name, answer in opened.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="turns of each store at each size")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--peers-only", action="store_true", help="leave out the figures of benchmarks/ring.py")
    arguments = parser.parse_args()
    if not PEERS.exists():
        sys.exit(f"no {PEERS}: run `make bench-peers`")
    peers = [Peer(name) for name in VENVS]
    by_size = {str(size): compare(size, peers, arguments.repeats, arguments.seconds) for size in SIZES_MIB}
    for peer in peers:
        peer.end()
    own: dict[str, Any] = {}
    if not arguments.peers_only:
        output = subprocess.run(
            [MAIN, ROOT / "benchmarks/ring.py", "--quick", "--json"], capture_output=True, text=True, check=True
        )
        own = json.loads(output.stdout.splitlines()[-1])
    figures = {f"over_{name}": {size: found["over"][name] for size, found in by_size.items()} for name in VENVS if name != "ring"}
    load = Path("/proc/loadavg").read_text().split()[:3]
    where = {"machine": platform.machine(), "cores": os.cpu_count(), "load": load, "kernel": platform.release()}
    print(json.dumps({**own, **figures, "peers": by_size, **where}))


if __name__ == "__main__":
    main()
