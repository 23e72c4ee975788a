"""The error tree: every error that a user can cause. Each message gives the value, the alternatives and the remedy."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AssetError",
    "ConfigError",
    "EmbodiChainError",
    "IntegrityError",
    "LearnerError",
    "MotionError",
    "PeerLost",
    "RingClosed",
    "RingError",
    "RingTimeout",
    "RobotError",
    "RunError",
    "SceneError",
    "StreamEnded",
    "StreamStopped",
    "TrajectoryForfeited",
    "UsageError",
    "nearest",
    "unknown",
]


class EmbodiChainError(Exception):
    """Base of every error that a user can cause and correct; the CLI prints it without a traceback."""


class ConfigError(EmbodiChainError):
    """A name, path or number in the configuration cannot be used."""


class UsageError(ConfigError):
    """A command line has an unknown option, lacks a required one, or gives a value of the wrong kind."""


class AssetError(EmbodiChainError):
    """An asset was refused: the message says at which stage and why."""


class RobotError(EmbodiChainError):
    """A robot description cannot be read or lacks what the engine needs."""


class SceneError(EmbodiChainError):
    """No valid scene could be sampled: the message says which object and which constraint."""


class MotionError(EmbodiChainError):
    """A pose has no inverse-kinematics solution or cannot be reached on any path."""


class RingError(EmbodiChainError):
    """The ring cannot be created, attached or used as asked."""


class RingTimeout(RingError):
    """A blocking ring call waited longer than its timeout_s; the message says which side is starved."""


class RingClosed(RingError):
    """The ring's owner has closed it: stop producing or sampling."""


class TrajectoryForfeited(RingError):
    """A crash left it unknown whether a trajectory was published. It is given up, because twice would be worse than never."""


class StreamEnded(RingError):
    """The engine has made everything requested and every read is used up: the normal end of a limited stream."""


class StreamStopped(StreamEnded):
    """A wait for trajectories was asked to stop."""


class IntegrityError(EmbodiChainError):
    """A trajectory was lost, duplicated, torn or read more often than its bound allows."""


class RunError(EmbodiChainError):
    """A run folder cannot be created, resumed or read."""


class LearnerError(EmbodiChainError):
    """The learner cannot continue: a loss that is not finite, invalid use of memory, a checkpoint of another shape."""


class PeerLost(LearnerError):
    """A learner process stops because another has failed or died; the other's error says why."""


def unknown(kind: str, value: str, available: Iterable[object], remedy: str = "") -> ConfigError:
    """The error for a name that does not exist: it gives the name, the most similar one, all alternatives, and the remedy."""
    names = sorted(map(str, available))
    near = nearest(value, names)
    advice = " ".join(filter(None, [f"did you mean {near!r}?" if near else "", remedy]))
    return ConfigError(f"unknown {kind} {value!r}; available: {', '.join(names)}" + (f" ({advice})" if advice else ""))


def nearest(value: str, names: Iterable[str]) -> str:
    """The name that `value` most likely misspells; empty when none is similar."""
    from difflib import get_close_matches  # needed only for an error

    return next(iter(get_close_matches(value, list(names), n=1, cutoff=0.6)), "")
