"""A build process: receives jobs from a pipe and reports on them. Imports nothing heavy before its threads are limited."""

from __future__ import annotations

import os
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path


def use_one_core() -> None:
    """Limits native libraries to one thread each, because the processes already run in parallel."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def serve(pipe: Connection) -> None:
    """Builds each received (job, out_dir, config) until the other side closes the pipe.

    Sends ("stage", stage, part) during the work, then ("built", file, seconds, stages) or ("failed", reason, seconds, stages).
    """
    use_one_core()
    with suppress(OSError):  # a file that fills the memory then costs this process, and no other
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    from embodichain.assets.chain import optimize
    from embodichain.assets.chain import record as record_room
    from embodichain.errors import EmbodiChainError

    while True:
        try:
            job, out_dir, config = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        record = record_room.Record(listener=lambda stage, part: pipe.send(("stage", stage, part)))
        start = time.perf_counter()
        try:
            asset = optimize.build_job(job, out_dir, config=config, record=record)
        except (KeyboardInterrupt, BrokenPipeError):
            return
        except EmbodiChainError as error:
            kind, result = "failed", str(error)
        except Exception as error:  # any error fails this asset only; the report names the place in the code
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind, result = "failed", f"{type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}: {error}"  # noqa: PTH119
        else:
            kind, result = "built", str(asset.path)
        seconds = round(time.perf_counter() - start, 3)
        try:
            pipe.send((kind, result, seconds, [asdict(entry) for entry in record.entries]))
        except BrokenPipeError:
            return
