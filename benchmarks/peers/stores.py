"""The ring and its peers behind one small face, each in the arrangement that suits it best.

Each store's packages are imported only by its own class, for no venv has them all.
"""
# ruff: noqa: D102  (what the methods do is said once, in `Store`)

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from content import BATCH, READS, Content
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1]))
from harness import end_with  # the folder above is not on the path of the peers' interpreter

Found = list[NDArray[np.uint64]]
REVERB_TABLE = "trajectories"


class Store(Protocol):
    """An open store that a process of its own keeps full."""

    version: str

    def draw(self) -> Iterator[NDArray[np.uint64]] | Found:
        """Two trajectories at random; each array is valid until the next."""
        ...

    def close(self) -> None:
        """Ends the writer and frees the memory."""
        ...


def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=_bound, args=(os.getpid(), target, *arguments), daemon=True)
    process.start()
    return process


def _bound(parent: int, target: Callable[..., None], *arguments: Any) -> None:
    """Runs `target` in a process that is killed when its parent ends."""
    end_with(parent)
    target(*arguments)


# --------------------------------------------------------------------------------------------------------------- our ring


def fill_ring(path: str, words: int) -> None:
    from embodichain.errors import RingError, RingTimeout
    from embodichain.ring.ring import Ring

    content, number = Content(words), 0
    with contextlib.suppress(RingError), Ring.attach(path) as ring:
        while True:
            with contextlib.suppress(RingTimeout), ring.reserve(timeout_s=1.0) as slot:
                content.write(number, slot["content"])
                number += 1


class RingStore:
    """Written in place, read in place; blocks the writer by itself."""

    def __init__(self, content: Content, num_slots: int) -> None:
        from embodichain import __version__
        from embodichain.ring.ring import Ring
        from embodichain.types import Field, RingSpec, TrajectorySpec

        self.version = f"embodichain {__version__}"
        fields = (Field(name="content", shape=(content.words,), dtype="uint64"),)
        trajectory = TrajectorySpec(horizon=1, fields=fields)
        self._ring = Ring.create(RingSpec(trajectory=trajectory, num_slots=num_slots, max_reads=READS, min_ready=num_slots // 2))
        self._writer = start(fill_ring, str(self._ring.path), content.words)

    def draw(self) -> Iterator[NDArray[np.uint64]]:
        with self._ring.sample(BATCH, 60.0) as batch:
            for sample in batch:
                yield sample["content"]

    def close(self) -> None:
        self._ring.close()
        self._writer.join(10)


# ----------------------------------------------------------------------------------------------------------------- Reverb


def fill_reverb(port: int, words: int) -> None:
    reverb: Any = import_module("reverb")
    client, content, number = reverb.Client(f"localhost:{port}"), Content(words), 0
    buffer = np.empty(words, np.uint64)
    with contextlib.suppress(RuntimeError):  # the server has gone
        while True:
            content.write(number, buffer)
            client.insert([buffer], priorities={REVERB_TABLE: 1.0})
            number += 1


class ReverbStore:
    """The server lives in the reading process, which spares Reverb the network on that side; its rate limiter holds the writer.

    Samples come from one long stream: Reverb's sampler, or its data set for TensorFlow, whichever was faster when tried.
    """

    def __init__(self, content: Content, num_slots: int) -> None:
        reverb: Any = import_module("reverb")
        self._reverb, self._words = reverb, content.words
        limiter = reverb.rate_limiters.SampleToInsertRatio(
            samples_per_insert=READS, min_size_to_sample=num_slots // 2, error_buffer=READS * num_slots
        )
        table = reverb.Table(
            name=REVERB_TABLE,
            sampler=reverb.selectors.Uniform(),
            remover=reverb.selectors.Fifo(),
            max_size=num_slots,
            max_times_sampled=READS,
            rate_limiter=limiter,
        )
        self._server = reverb.Server([table])
        self._writer = start(fill_reverb, self._server.port, content.words)
        self._stream: Iterator[NDArray[np.uint64]] = iter(())
        rate, best = 0.0, ""
        for name, stream in (("sampler", self._sampler()), ("data set", self._dataset())):
            tried = self._rate(stream, content)
            if tried > rate:
                self._stream, rate, best = stream, tried, name
        self.version = f"dm-reverb {version('dm-reverb')} ({best})"

    def draw(self) -> Iterator[NDArray[np.uint64]]:
        for _ in range(BATCH):
            yield next(self._stream)

    def close(self) -> None:
        self._writer.kill()
        self._writer.join()
        del self._stream
        self._server.stop()

    def _sampler(self) -> Iterator[NDArray[np.uint64]]:
        client = self._server.localhost_client()
        for sample in client.sample(REVERB_TABLE, num_samples=10**9, emit_timesteps=False):
            yield sample.data[0].reshape(-1)

    def _dataset(self) -> Iterator[NDArray[np.uint64]]:
        tensorflow: Any = import_module("tensorflow")
        dataset = self._reverb.TrajectoryDataset(
            server_address=f"localhost:{self._server.port}",
            table=REVERB_TABLE,
            dtypes=[tensorflow.uint64],
            shapes=[tensorflow.TensorShape([1, self._words])],
            max_in_flight_samples_per_worker=2,
            num_workers_per_iterator=2,
        )
        for sample in dataset:
            yield sample.data[0].numpy().reshape(-1)

    def _rate(self, stream: Iterator[NDArray[np.uint64]], content: Content) -> float:
        for _ in range(4):
            next(stream)
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < 0.7:
            content.is_summed_right(next(stream))
            count += 1
        return count / elapsed


# ---------------------------------------------------------------------------------------------------------------- TorchRL


def fill_torchrl(buffer: Any, words: int, wanted: Any) -> None:
    torch: Any = import_module("torch")
    tensordict: Any = import_module("tensordict")
    torch.set_num_threads(1)
    content, number = Content(words), 0
    array = np.empty((1, words), np.uint64)
    item = tensordict.TensorDict({"content": torch.from_numpy(array.view(np.int64))}, batch_size=[1])
    while True:
        wanted.acquire()
        content.write(number, array[0])
        buffer.extend(item)
        number += 1


class TorchRLStore:
    """A replay buffer in memory-mapped files in /dev/shm, shared with the writer; having no bound, it is paced by the reader."""

    def __init__(self, content: Content, num_slots: int) -> None:
        torch: Any = import_module("torch")
        data: Any = import_module("torchrl.data")
        tensordict: Any = import_module("tensordict")
        self.version = f"torchrl {version('torchrl')}, torch {torch.__version__}"
        torch.set_num_threads(1)  # its default, all cores, gathers 2 to 30 times slower while others use the cores
        self._folder = Path(tempfile.mkdtemp(prefix="peers-", dir="/dev/shm"))
        storage = data.LazyMemmapStorage(num_slots, scratch_dir=str(self._folder))
        self._buffer = data.ReplayBuffer(storage=storage, batch_size=BATCH, shared=True)
        array = np.empty((num_slots, content.words), np.uint64)
        for number in range(num_slots):
            content.write(number, array[number])
        self._buffer.extend(tensordict.TensorDict({"content": torch.from_numpy(array.view(np.int64))}, batch_size=[num_slots]))
        self._wanted = multiprocessing.get_context("spawn").Semaphore(0)
        self._writer = start(fill_torchrl, self._buffer, content.words, self._wanted)
        self._reads = 0

    def draw(self) -> Found:
        found = self._buffer.sample()["content"].numpy().view(np.uint64)
        self._reads += BATCH
        if self._reads % READS < BATCH:
            self._wanted.release()
        return list(found)

    def close(self) -> None:
        self._writer.kill()
        self._writer.join()
        shutil.rmtree(self._folder)


# -------------------------------------------------------------------------------------------------------------------- Ray


class RayStore:
    """One object a trajectory, put by an actor, read in place from the object store, dropped after its last read."""

    def __init__(self, content: Content, num_slots: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray: Any = import_module("ray")
        self.version = f"ray {ray.__version__}"
        size = content.words * 8 * num_slots * 3
        ray.init("local", include_dashboard=False, num_cpus=2, object_store_memory=max(size, 100 << 20), log_to_driver=False)
        self._ray = ray
        words = content.words

        class Writer:
            def __init__(self) -> None:
                self._content, self._number = Content(words), 0
                self._buffer = np.empty(words, np.uint64)

            def make(self) -> NDArray[np.uint64]:
                self._content.write(self._number, self._buffer)
                self._number += 1
                return self._buffer

        runtime = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
        self._writer = ray.remote(num_cpus=1, runtime_env=runtime)(Writer).remote()
        self._ready = [[self._writer.make.remote(), READS] for _ in range(num_slots)]
        self._coming = [self._writer.make.remote() for _ in range(2)]
        self._random = random.Random(0)

    def draw(self) -> Found:
        picks = self._random.sample(range(len(self._ready)), BATCH)
        found = self._ray.get([self._ready[pick][0] for pick in picks])
        for pick in picks:
            self._ready[pick][1] -= 1
            if self._ready[pick][1] == 0:
                self._ready[pick] = [self._coming.pop(0), READS]
                self._coming.append(self._writer.make.remote())
        return found

    def close(self) -> None:
        self._ray.shutdown()


STORES: dict[str, Callable[[Content, int], Store]] = {
    "ring": RingStore,
    "reverb": ReverbStore,
    "torchrl": TorchRLStore,
    "ray": RayStore,
}
