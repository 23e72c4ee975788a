"""The error tree: every fault a user can cause, each raised with the value, what is available and the remedy."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AssetError",
    "ConfigError",
    "EmbodiChainError",
    "IntegrityError",
    "LearnerError",
    "MotionError",
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
    """Base of every error that a user can cause and mend; the CLI prints it without a traceback."""


class ConfigError(EmbodiChainError):
    """A name, path or number in the configuration cannot be used."""


class UsageError(ConfigError):
    """A command line has an option that does not exist, lacks one that must be given, or gives a value of another kind."""


class AssetError(EmbodiChainError):
    """An asset was refused: the message says at which stage and why."""


class RobotError(EmbodiChainError):
    """A robot description cannot be read or lacks what the engine needs."""


class SceneError(EmbodiChainError):
    """No valid scene could be sampled: the message says which object and which constraint."""


class MotionError(EmbodiChainError):
    """A pose has no inverse-kinematics solution or no path."""


class RingError(EmbodiChainError):
    """The ring cannot be created, attached or used as asked."""


class RingTimeout(RingError):
    """A blocking ring call waited longer than its timeout_s: the message says which side is starved."""


class RingClosed(RingError):
    """The ring's owner has closed it: stop producing or sampling."""


class TrajectoryForfeited(RingError):
    """A crash hid whether a trajectory was published: it is given up, for twice would be worse than never."""


class StreamEnded(RingError):
    """The engine has made all it was asked for and every read is used up: the normal end of a limited stream."""


class StreamStopped(StreamEnded):
    """Whoever waited for trajectories was asked to stop."""


class IntegrityError(EmbodiChainError):
    """A trajectory was lost, duplicated, torn or read more often than its bound allows."""


class RunError(EmbodiChainError):
    """A run folder cannot be created, resumed or read."""


class LearnerError(EmbodiChainError):
    """The learner cannot go on: a loss that is not finite, memory used against its rules, a checkpoint of another shape."""


def unknown(kind: str, value: str, available: Iterable[object], remedy: str = "") -> ConfigError:
    """The one form of "no such name": names the value and the nearest that exists, lists all of them, says what to do."""
    names = sorted(map(str, available))
    near = nearest(value, names)
    advice = " ".join(filter(None, [f"did you mean {near!r}?" if near else "", remedy]))
    return ConfigError(f"unknown {kind} {value!r}; available: {', '.join(names)}" + (f" ({advice})" if advice else ""))


def nearest(value: str, names: Iterable[str]) -> str:
    """The name that `value` is most likely a misspelling of; empty when none is like it."""
    from difflib import get_close_matches  # only a fault needs it

    return next(iter(get_close_matches(value, list(names), n=1, cutoff=0.6)), "")
