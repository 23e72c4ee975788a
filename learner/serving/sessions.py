"""Sessions of a served policy: turns messages into replies, with a separate memory for each session.

This file knows no sockets: the server calls `Connection.answer` with each message, always in the inference thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import unknown
from embodichain.types import ACTION_DIM, INSTRUCTION_BYTES, ChannelLimits
from learner.inference.policy import Policy
from learner.serving.budget import Memory, RequestError

_MOST_ID_CHARACTERS = 128
_NUMBER = re.compile("0|[1-9][0-9]{0,5}")
"""How the number of a part is written: in one way only, so that two names cannot mean one part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embodiment:
    """The robot from a client's view: its cameras, and its native joint vector beside the unified representation.

    `encode` turns measurements [..., native] (joints [rad] and gripper opening [m] of each arm in order) into the unified
    representation [..., 30]; `decode` turns unified actions back.
    """

    cameras: tuple[str, ...]
    height: int
    width: int
    native: int
    control_hz: float
    """Control steps a second [Hz]."""
    chunk: int
    """K, control steps between two frames."""
    home: NDArray[np.float64]
    """A valid native state, [native], for warming up."""
    limits: ChannelLimits
    """Limits in the unified representation: states beyond them are refused, and replies are clipped to them."""
    encode: Callable[[NDArray[np.float64]], NDArray[np.float32]]
    decode: Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One validated request: rgb uint8 [cameras, h, w, 3], proprio float32 [30], and whether the client speaks native vectors."""

    rgb: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    executed: NDArray[np.float32] | None
    native: bool


class MessageReader:
    """Turns messages into observations; refuses anything that the model was not trained on.

    `rename` maps a client's keys to those of this server: {"observation/image": "images/head", "observation/state": "state"}. Parts
    of a split state are named "state/0", "state/1" and so on, and are concatenated in the order of their numbers.
    """

    KEYS = ("images", "state", "prompt", "session_id", "reset", "executed", "lost", "horizon")
    DIVIDED = ("images", "state")
    """Keys that may have parts, as in "images/head"."""

    def __init__(self, body: Embodiment, rename: Mapping[str, str] | None = None) -> None:
        self._body = body
        self._rename = dict(rename or {})
        for name in self._rename.values():
            if name.partition("/")[0] not in self.KEYS:
                raise unknown("message key", name, [*self.KEYS, *(f"images/{camera}" for camera in body.cameras)])

    def flat(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Flattens nested maps to keys such as "images/head" and renames them.

        Raises RequestError for an unknown key, and for two values that fall on the same name: only one of them could be used.
        """
        found: dict[str, Any] = {}
        origins: dict[str, str] = {}
        if wrong := [key for key in message if not isinstance(key, str)]:
            raise RequestError(f"keys are strings, got {wrong[0]!r:.40}; a request may hold {', '.join(self.KEYS)}")
        for key, value in message.items():
            nested = {f"{key}/{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
            if isinstance(value, dict) and len(nested) < len(value):
                raise RequestError(f"two keys in {key!r:.40} read the same: send each name once")
            for theirs, part in nested.items():
                name = self._rename.get(theirs, theirs)
                if name in found:
                    raise RequestError(f"{origins[name]!r:.60} and {theirs!r:.60} both mean {name!r:.60}: send one of them")
                found[name], origins[name] = part, theirs
        for key in found:
            name, slash, _ = key.partition("/")
            if name not in self.KEYS or (slash and name not in self.DIVIDED):
                raise RequestError(f"unknown key {key!r:.60}; a request may hold {', '.join(self.KEYS)}")
        return found

    def observation(self, values: Mapping[str, Any]) -> Observation:
        """The observation in a flat message; raises RequestError, which says what came and what is expected."""
        body = self._body
        pictures = {key.removeprefix("images/"): value for key, value in values.items() if key.startswith("images")}
        for name in pictures:
            if name not in body.cameras:
                raise RequestError(f"unknown camera {name!r:.60}; available: {', '.join(body.cameras)}")
        if missing := [name for name in body.cameras if name not in pictures]:
            raise RequestError(f"no picture of camera {', '.join(missing)}; the policy sees {', '.join(body.cameras)}")
        rgb = np.stack([self._picture(name, pictures[name]) for name in body.cameras])
        parts = [self.numbers(key, values[key]) for key in self._parts(values)]
        proprio, native = self._unified("state", np.concatenate([part.reshape(-1) for part in parts]), ())
        self.check_limits("state", proprio[None])
        executed = None
        if "executed" in values:
            given = self.numbers("executed", values["executed"])
            count = len(given) if given.ndim == 2 and len(given) <= self._body.chunk else self._body.chunk
            executed, _ = self._unified("executed", given, (count,))
            self.check_limits("executed action", executed)
        return Observation(rgb=rgb, proprio=proprio, executed=executed, native=native)

    def _parts(self, values: Mapping[str, Any]) -> list[str]:
        """The keys of the state in the order in which it is joined: "state" alone, or "state/0", "state/1" and so on."""
        keys = [key for key in values if key.partition("/")[0] == "state"]
        if not keys:
            raise RequestError(f"no state: {self._sizes('measured joints and grippers, 1-D', ())}")
        if keys == ["state"]:
            return keys
        for key in keys:
            if not _NUMBER.fullmatch(key.removeprefix("state/")):
                raise RequestError(f"{key!r:.60} is no part of a state: send it whole, or as state/0, state/1 and so on")
        keys.sort(key=lambda key: int(key.removeprefix("state/")))
        if missing := [f"state/{number}" for number in range(len(keys)) if f"state/{number}" not in values]:
            raise RequestError(f"{missing[0]} is missing: the highest of {len(keys)} parts of the state is {keys[-1]}")
        return keys

    def check_limits(self, what: str, rows: NDArray[np.float32]) -> None:
        """Raises RequestError when one of the unified vectors [N, 30] lies beyond what can be of the robot."""
        for row in rows:
            if breach := self._body.limits.breach(row):
                raise RequestError(f"this {what} cannot be: {breach}; send joints in radians and openings in metres")

    def _picture(self, name: str, value: Any) -> NDArray[np.uint8]:
        height, width = self._body.height, self._body.width
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:
            if value.shape == (height, width, 3):
                return value
            if value.shape == (3, height, width):
                return value.transpose(1, 2, 0)
        got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise RequestError(
            f"the picture of camera {name!r} must be uint8 [{height}, {width}, 3] or [3, {height}, {width}], got {got}; "
            "openpi_client.image_tools converts and resizes"
        )

    def numbers(self, key: str, value: Any) -> NDArray[np.float32]:
        """`value` as an array; raises RequestError when it is none, or not of finite numbers."""
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.empty(0, object)
        if array.dtype.kind not in "iuf" or isinstance(value, str | bytes):
            raise RequestError(f"{key} must be an array of numbers, got {type(value).__name__} of {array.dtype}")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise RequestError(f"{key} holds values that are not finite")
        return array

    def _unified(self, key: str, array: NDArray[np.float32], lead: tuple[int, ...]) -> tuple[NDArray[np.float32], bool]:
        if array.shape == (*lead, ACTION_DIM):
            return array, False
        if array.shape == (*lead, self._body.native):
            return self._body.encode(array.astype(np.float64)), True
        raise RequestError(f"{key}: {self._sizes('needs shape', lead)}, got {list(array.shape)}")

    def _sizes(self, what: str, lead: tuple[int, ...]) -> str:
        first = [f"0..{self._body.chunk}"] if lead else []
        shapes = (f"[{', '.join([*first, str(size)])}]" for size in (ACTION_DIM, self._body.native))
        return f"{what} {next(shapes)} (unified) or {next(shapes)} (the robot's own)"


@dataclass(slots=True)
class _Session:
    policy: Policy
    prompt: str | None = None
    native: bool = False


class Connection:
    """The sessions of one client, by id. Only the inference thread may call it."""

    times_everything = False

    def __init__(
        self, make_policy: Callable[[], Policy], reader: MessageReader, body: Embodiment, *, max_sessions: int, memory: Memory
    ) -> None:
        self._make_policy = make_policy
        self._memory = memory
        self._reader = reader
        self._body = body
        self._max_sessions = max_sessions
        self._sessions: dict[str, _Session] = {}

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one message: actions and timing, or {} for a reset without an observation.

        Raises RequestError or another EmbodiChainError for a request that cannot be answered; all sessions are then unchanged.
        """
        began = time.perf_counter()
        values = self._reader.flat(message)
        session_id = self._session_id(values)
        prompt, reset, lost, whole = self._prompt(values), *(flag(values, name) for name in ("reset", "lost", "horizon"))
        known = self._sessions.get(session_id)
        fresh = known is None or reset or (prompt is not None and prompt != known.prompt)
        seen = any(key.startswith(("images", "state", "executed")) for key in values)
        if reset and not seen and not lost:
            begun = self._begin(prompt, replacing=known) if prompt is not None else None  # may refuse: only then the old one ends
            if known is not None:
                self._end(known)
                del self._sessions[session_id]
            if begun is not None:
                self._sessions[session_id] = begun
            return {}
        if lost and (seen or fresh):
            raise RequestError("a lost observation has no images or state, belongs to a running session and asks for no reset")
        if lost:
            assert known is not None
            if not known.policy.can_be_blind:
                raise RequestError("lost observations can only be bridged by a server that speculates: start it with --sai")
            actions, native, session = known.policy.act_blind(), known.native, known
        else:
            observation = self._reader.observation(values)  # validated first, so that a bad request changes no session
            native = observation.native
            if fresh:
                instruction = prompt if prompt is not None else known.prompt if known is not None else None
                if instruction is None:
                    raise RequestError("a new session needs a prompt: the instruction in words")
                if observation.executed is not None:
                    raise RequestError("executed actions belong between two frames of a session: this one just begins")
                session = self._begin(instruction, replacing=known)
            else:
                assert known is not None
                session = known
            try:
                self._memory.admit(session.policy)
                actions = session.policy.act(observation.rgb, observation.proprio, observation.executed)
            except BaseException:
                if fresh:
                    self._end(session)
                raise
            session.native = native
            if fresh:
                if known is not None:
                    self._end(known)
                self._sessions[session_id] = session
        self._memory.note(session.policy)
        if whole:
            actions = np.concatenate([actions, session.policy.rest])
        return {
            "actions": self._body.decode(actions).astype(np.float32) if native else actions,
            "policy_timing": _timing(session.policy, began),
        }

    def close(self) -> None:
        """Ends every session and frees its memory; safe to call twice."""
        for session in self._sessions.values():
            self._end(session)
        self._sessions.clear()

    def _end(self, session: _Session) -> None:
        session.policy.close()
        self._memory.forget(session.policy)

    def _begin(self, prompt: str, replacing: _Session | None = None) -> _Session:
        if replacing is None and len(self._sessions) >= self._max_sessions:
            raise RequestError(f"{self._max_sessions} sessions are open on this connection already; end one with reset, or connect")
        if replacing is None:
            self._memory.ask()
        session = _Session(self._make_policy(), prompt)
        try:
            session.policy.begin(prompt)
        except BaseException:
            session.policy.close()
            raise
        self._memory.reserve(session.policy, instead_of=None if replacing is None else replacing.policy)
        return session

    @staticmethod
    def _session_id(values: Mapping[str, Any]) -> str:
        value = values.get("session_id", "")
        if not isinstance(value, str | int) or isinstance(value, bool) or len(str(value)) > _MOST_ID_CHARACTERS:
            raise RequestError(f"session_id must be a string or an integer of at most {_MOST_ID_CHARACTERS} characters")
        return f"{type(value).__name__}:{value}"

    @staticmethod
    def _prompt(values: Mapping[str, Any]) -> str | None:
        value = values.get("prompt")
        if value is not None and (not isinstance(value, str) or len(value.encode()) > INSTRUCTION_BYTES):
            raise RequestError(f"prompt must be a string of at most {INSTRUCTION_BYTES} bytes, got {type(value).__name__}")
        return value


def flag(values: Mapping[str, Any], key: str) -> bool:
    """The value of a switch, False where it is missing; raises RequestError when it is neither true nor false."""
    value = values.get(key, False)
    if not isinstance(value, bool | np.bool_):
        raise RequestError(f"{key} must be true or false, got {value!r:.40}")
    return bool(value)


def _timing(policy: Policy, began: float) -> dict[str, Any]:
    timing: dict[str, Any] = {"infer_ms": 1e3 * (time.perf_counter() - began)}
    if (last := policy.last) is not None:
        timing |= {
            "outcome": last.outcome.value,
            **{f"{stage}_evaluations": count for stage, count in last.evaluations.items()},
            "waited_ms": 1e3 * last.waited_s,
        }
    return timing
