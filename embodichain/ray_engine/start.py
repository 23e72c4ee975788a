"""Joining a Ray cluster, or starting Ray on this machine."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress

import ray

from embodichain.errors import ConfigError
from embodichain.ray_engine.config import RayConfig

_CONNECT_S = 3.0


def start_ray(config: RayConfig) -> bool:
    """Joins the cluster at `config.address` or starts Ray on this machine; True when this process joined or started it.

    Raises ConfigError when there is no cluster, or one that does not let this process in.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    environment = {"env_vars": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}}
    if config.address:
        try:
            ray.init(address=config.address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            with suppress(Exception):
                ray.shutdown()  # what has begun of a connection that was refused
            raise _no_entry(config.address, error) from error
        return True
    ray.init(
        address="local",  # without it Ray joins whatever cluster somebody else has running here
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        runtime_env=environment,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return True


def _no_entry(address: str, error: BaseException) -> ConfigError:
    """Tells a cluster that is not there from one that does not want this process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, ValueError):
        return ConfigError(
            f"no Ray cluster answers at {address!r}; start one with `ray start --head`, or leave the address empty to start Ray on "
            "this machine"
        )
    words = " ".join(str(error).split())[:300]
    return ConfigError(
        f"something answers at {address!r} and refuses: {words or type(error).__name__}. If the cluster asks for a token, "
        "RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) must be set here as there; versions of Ray must agree "
        f"(here {ray.__version__})"
    )
