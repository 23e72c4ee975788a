"""Joins a Ray cluster, or starts Ray on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from embodichain.errors import ConfigError
from embodichain.ray_engine.config import RayConfig

_CONNECT_S = 3.0


class NoCluster(ConfigError):
    """No cluster answers at the address."""


class Refused(ConfigError):
    """A cluster answers but refuses this process, because of a wrong token or another version."""


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps this program's answer to SIGTERM: Ray sets one of its own when it starts, which ends the process there and then."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)


@_own_signals()
def start_ray(config: RayConfig) -> bool:
    """Joins the cluster at `config.address` or starts Ray on this machine; True when this process joined or started it.

    Raises NoCluster when no cluster answers, and Refused when it refuses this process.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray would start a process for every core at once; no actor of ours could use them, as each has an environment of its own.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    variables = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment = {"env_vars": variables}
    if config.address:
        _knock(config.address)
        try:
            ray.init(address=config.address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise _refused(config.address, error) from error
        return True
    # Workers must be able to import everything that this process can, such as plug-ins named "package.module:Name".
    variables["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    ray.init(
        address="local",  # otherwise Ray would join any cluster that runs on this machine
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        runtime_env=environment,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return True


def _knock(address: str) -> None:
    """Raises NoCluster when nothing listens at host:port, because Ray itself would wait long and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # "auto" and similar addresses are resolved by Ray
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise NoCluster(
            f"no Ray cluster answers at {address!r} ({error.strerror or error}); start one with `ray start --head`, or leave the "
            "address empty to start Ray on this machine"
        ) from error


def _refused(address: str, error: BaseException) -> ConfigError:
    """The error for a cluster that answers but refuses this process."""
    if address == "auto":
        return NoCluster("no Ray cluster runs on this machine; start one with `ray start --head`, or leave the address empty")
    words = " ".join(str(error).split())[:300]
    return Refused(
        f"something answers at {address!r} and refuses: {words or type(error).__name__}. If the cluster asks for a token, "
        "RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) must be set here as there; versions of Ray must agree "
        f"(here {ray.__version__})"
    )
