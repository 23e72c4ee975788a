"""Runs many commands as trials of one Ray Tune experiment, each in its own process, as many at once as there are cores."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig

from embodichain.errors import EmbodiChainError
from embodichain.metrics import latest
from embodichain.ray_engine.config import RayConfig
from embodichain.ray_engine.start import start_ray

_REPORT_S = 5.0
"""Interval at which a trial reports progress to Tune [s]."""
_STOP_S = 60.0
"""How long a command may take to stop cleanly before it is killed [s]."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A command and its output folder."""

    name: str
    """Unique name of the trial."""
    command: tuple[str, ...]
    folder: Path
    """Output folder, an absolute path that is valid on every node. Tune writes its own files there too."""
    log: Path
    """File for the command's output."""


Ended = Callable[[str, int], None]
"""Called for each trial that has ended, with its name and the exit code of its command."""


Working = Callable[[str, str], None]
"""Called for each trial that begins or has made steps, with its name and what there is to say of it."""


def run_trials(
    errands: Sequence[Errand], *, address: str, at_once: int, cores: float, on_working: Working, on_ended: Ended
) -> dict[str, int]:
    """Runs the commands in order; returns exit codes by name, 255 for a command that did not end.

    Args:
        errands: the commands; their folders must have the same parent.
        address: address of a running Ray cluster; empty starts Ray on this machine.
        at_once: most trials at a time.
        cores: CPU cores that each requests from a running cluster.
        on_working: called in this process when a trial begins, and as it goes on.
        on_ended: called in this process for each trial that has ended.

    Raises EmbodiChainError when Tune itself fails. On Ctrl-C, running commands are interrupted, and KeyboardInterrupt is raised.
    """
    home = errands[0].folder.parent
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    environment = dict(os.environ)
    started = start_ray(RayConfig(address=address))
    by_name = {errand.name: errand for errand in errands}

    def work(config: Mapping[str, str]) -> None:
        code = _work(by_name[config["trial"]], environment)
        tune.report({"exit_code": code, "done_for_good": True})

    try:
        asked = {"cpu": cores if address else 0.001}  # without a cluster, only `at_once` limits the trials
        tuner = tune.Tuner(
            tune.with_resources(work, asked),
            param_space={"trial": tune.grid_search([errand.name for errand in errands])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=at_once,
                reuse_actors=True,  # reuse processes, because starting one takes seconds
                trial_name_creator=lambda trial: str(trial.config["trial"]),
                trial_dirname_creator=lambda trial: str(trial.config["trial"]),
            ),
            run_config=RunConfig(
                name=home.name,
                storage_path=str(home.parent),
                verbose=0,
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
                callbacks=[_Told(on_working, on_ended)],
            ),
        )
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        results = tuner.fit()
    except ray.exceptions.RayError as error:
        raise EmbodiChainError(f"the trials could not be run: {error}") from error
    finally:
        if started:
            ray.shutdown()
    codes = {result.config["trial"]: result.metrics.get("exit_code", 255) for result in results if result.config and result.metrics}
    return {errand.name: int(codes.get(errand.name, 255)) for errand in errands}


class _Told(tune.Callback):
    """A Tune callback that calls `on_working` and `on_ended`."""

    def __init__(self, on_working: Working, on_ended: Ended) -> None:
        self._on_working = on_working
        self._on_ended = on_ended

    def __getstate__(self) -> dict[str, object]:
        """Drops whom to call, because Tune pickles its callbacks for later processes."""
        return {"_on_working": _nobody, "_on_ended": _nobody}

    def on_trial_start(self, iteration: int, trials: list, trial: tune.experiment.Trial, **info: object) -> None:
        """A command is about to begin."""
        self._on_working(str(trial), "")

    def on_trial_result(self, iteration: int, trials: list, trial: tune.experiment.Trial, result: dict, **info: object) -> None:
        """A command has made steps."""
        if "loss" in result:
            self._on_working(str(trial), f"step {result['step']}, loss {result['loss']:.3f}")

    def on_trial_complete(self, iteration: int, trials: list, trial: tune.experiment.Trial, **info: object) -> None:
        """A command has ended."""
        self._on_ended(str(trial), int(trial.last_result.get("exit_code", 255)))

    def on_trial_error(self, iteration: int, trials: list, trial: tune.experiment.Trial, **info: object) -> None:
        """The process that ran a command has died."""
        self._on_ended(str(trial), 255)


def _nobody(name: str, told: object) -> None:
    """Does nothing."""


def _work(errand: Errand, environment: Mapping[str, str]) -> int:
    """Runs a command, reports its progress to Tune, and returns its exit code. It is interrupted if this process dies."""
    errand.log.parent.mkdir(parents=True, exist_ok=True)
    with errand.log.open("ab") as log:
        process = subprocess.Popen(
            errand.command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
        )
        told = time.monotonic()
        try:
            while (code := process.poll()) is None:
                time.sleep(0.2)
                if time.monotonic() - told > _REPORT_S:
                    told = time.monotonic()
                    if step := latest(errand.folder / "metrics.jsonl", "train"):
                        tune.report({"step": step["step"], "loss": step["loss"]})
            return code
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def _die_with_parent() -> None:
    """Called in the child: makes the kernel interrupt the command when its parent dies, so that it still saves a checkpoint."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
