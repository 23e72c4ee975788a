"""The project's own protocol: every request says what to do, and replies hold everything that a policy can tell.

Requests and their replies, where H is the number of actions of a decision and K that of a chunk:

    {do: "begin", prompt}                      {}
    {do: "act", images, state, executed?}      {actions [H, A], commands [H, n], chunk: K, outcome, evaluations, ..}
    {do: "watch", images, state, executed?}    {frames, state_bytes}
    {do: "blind"}                              as "act", without an observation; only servers that speculate
    {do: "imagine"}                            {images: {camera: uint8 [h, w, 3]}}, the frame predicted after the last chunk
    {do: "end"}                                {}

`actions` are unified and absolute, `commands` the same for the robot's own joints and grippers. `executed` holds the actions since
the last frame; without it they were the first K of the last reply. After a "watch" it must be given, as nothing was decided there.
A connection has exactly one session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.types import INSTRUCTION_BYTES
from learner.inference.policy import Policy
from learner.serving.budget import Memory, RequestError
from learner.serving.sessions import Embodiment, MessageReader, Observation

_ALLOWED = {
    "begin": ("prompt",),
    "act": ("images", "state", "executed"),
    "watch": ("images", "state", "executed"),
    "blind": (),
    "imagine": (),
    "end": (),
}
"""What each request may hold."""


class NativeConnection:
    """One client with its policy. Only the inference thread may call it."""

    times_everything = True
    """Every reply contains `server_timing`, even if it contains nothing else."""

    def __init__(self, make_policy: Callable[[], Policy], reader: MessageReader, body: Embodiment, memory: Memory) -> None:
        self._make_policy, self._reader, self._body, self._memory = make_policy, reader, body, memory
        self._policy: Policy | None = None
        self._has_decided = False
        """Whether the last frame was answered with actions, which count as executed unless the client says otherwise."""

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one message.

        Raises RequestError or another EmbodiChainError for a request that cannot be answered; the session is then unchanged.
        """
        wish = message.get("do")
        if not isinstance(wish, str) or wish not in _ALLOWED:
            raise RequestError(f"a request says what to do, got do={wish!r:.40}; available: {', '.join(_ALLOWED)}")
        values = self._reader.flat({key: value for key, value in message.items() if key != "do"})
        allowed = _ALLOWED[wish]
        if wrong := [key for key in values if key.partition("/")[0] not in allowed]:
            raise RequestError(f"{wish!r} takes {' and '.join(allowed) or 'nothing'}, got {wrong[0]!r:.60}")
        if wish == "begin":
            return self._begin(values.get("prompt"))
        if self._policy is None:
            raise RequestError("nothing is under way on this connection: send {do: 'begin', prompt: ...} first")
        if wish == "end":
            self.close()
            return {}
        if wish == "imagine":
            return {"images": dict(zip(self._body.cameras, self._policy.imagined_frame(), strict=True))}
        if wish == "blind":
            return self._blind(self._policy)
        return self._look(self._policy, self._reader.observation(values), decides=wish == "act")

    def close(self) -> None:
        """Ends the session and frees its memory; safe to call twice."""
        if self._policy is not None:
            self._policy.close()
            self._memory.forget(self._policy)
            self._policy = None

    def _begin(self, prompt: Any) -> dict[str, Any]:
        if not isinstance(prompt, str) or len(prompt.encode()) > INSTRUCTION_BYTES:
            raise RequestError(f"'begin' needs a prompt, a string of at most {INSTRUCTION_BYTES} bytes")
        if self._policy is None:
            self._memory.ask()
        policy = self._make_policy()
        try:
            policy.begin(prompt)
        except BaseException:
            policy.close()
            raise
        self._memory.reserve(policy, instead_of=self._policy)
        self.close()
        self._policy, self._has_decided = policy, False
        return {}

    def _look(self, policy: Policy, seen: Observation, *, decides: bool) -> dict[str, Any]:
        began = time.perf_counter()
        if policy.seen is None and seen.executed is not None:
            raise RequestError("executed actions belong between two frames of a session: this one just begins")
        if policy.seen is not None and seen.executed is None and not self._has_decided:
            raise RequestError("the last frame was only watched: say which actions were executed since (executed)")
        self._memory.admit(policy)
        if decides:
            reply = self._decided(policy, policy.act(seen.rgb, seen.proprio, seen.executed), began)
        else:
            policy.watch(seen.rgb, seen.proprio, seen.executed)
            reply = _held(policy)
        self._has_decided = decides
        self._memory.note(policy)
        return reply

    def _blind(self, policy: Policy) -> dict[str, Any]:
        began = time.perf_counter()
        if not policy.can_be_blind:
            raise RequestError("lost observations can only be bridged by a server that speculates: start it with --sai")
        reply = self._decided(policy, policy.act_blind(), began)
        self._has_decided = True
        return reply

    def _decided(self, policy: Policy, chunk: NDArray[np.float32], began: float) -> dict[str, Any]:
        assert policy.last is not None
        actions = np.concatenate([chunk, policy.rest])
        return {
            "actions": actions,
            "commands": self._body.decode(actions).astype(np.float32),
            "chunk": policy.chunk,
            "outcome": policy.last.outcome.value,
            "evaluations": dict(policy.last.evaluations),
            "waited_ms": 1e3 * policy.last.waited_s,
            "decided_ms": 1e3 * (time.perf_counter() - began),
            **_held(policy),
        }


def _held(policy: Policy) -> dict[str, Any]:
    return {"frames": policy.memory.steps, "state_bytes": policy.memory.size_bytes}
