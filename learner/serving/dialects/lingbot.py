"""The protocol of causal video-action servers: clients send frames and executed actions in requests of their own.

A client resets with an instruction, requests actions with its first frame, executes them, sends the frames seen meanwhile with the
executed actions, and requests actions again. The messages:

    {reset: true, prompt}                                     gives {}
    {obs, prompt}                                             gives {action: [A, F, K]}
    {obs: [F frames], compute_kv_cache: true, state: action}  gives {}

where `obs` is one frame, a map of pictures and measured state with the keys of `MessageReader`, and `state` holds the executed
actions, unified and absolute. A connection has exactly one session. Other keys (guidance scales, visualisation) are accepted and
ignored: guidance is set by the trained model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.types import ACTION_DIM, INSTRUCTION_BYTES
from learner.inference.policy import Policy
from learner.serving.budget import Memory, RequestError
from learner.serving.sessions import MessageReader, Observation, flag


class LingbotConnection:
    """One client with its policy. Only the inference thread may call it."""

    times_everything = True
    """Every reply contains `server_timing`, even if it contains nothing else."""

    def __init__(self, make_policy: Callable[[], Policy], reader: MessageReader, memory: Memory) -> None:
        self._make_policy = make_policy
        self._memory = memory
        self._reader = reader
        self._policy: Policy | None = None
        self._fed: tuple[list[Observation], NDArray[np.float32]] | None = None
        self._is_waiting = False
        """Whether actions were sent and no frames have come back since."""

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one message.

        Raises RequestError or another EmbodiChainError for a request that cannot be answered; the session is then unchanged.
        """
        if flag(message, "reset"):
            return self._reset(message.get("prompt"))
        if self._policy is None:
            raise RequestError("nothing is under way on this connection: send {reset: true, prompt: ...} first")
        if flag(message, "compute_kv_cache"):
            return self._feed(message)
        return self._infer(self._policy, message)

    def close(self) -> None:
        """Ends the session and frees its memory; safe to call twice."""
        if self._policy is not None:
            self._policy.close()
            self._memory.forget(self._policy)
            self._policy = None

    def _reset(self, prompt: Any) -> dict[str, Any]:
        if not isinstance(prompt, str) or len(prompt.encode()) > INSTRUCTION_BYTES:
            raise RequestError(f"a reset needs a prompt, a string of at most {INSTRUCTION_BYTES} bytes")
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
        self._policy, self._fed, self._is_waiting = policy, None, False
        return {}

    def _feed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Stores the frames and actions since the last reply, until the next actions are requested."""
        if not self._is_waiting:
            raise RequestError("frames are fed back once after each answer with actions: ask for actions first")
        assert self._policy is not None
        size = self._policy.chunk
        chunks = 1 + len(self._policy.rest) // size
        frames = self._frames(message.get("obs"), chunks)
        executed = self._reader.numbers("state", message.get("state"))
        if executed.shape != (ACTION_DIM, chunks, size):
            raise RequestError(
                f"state holds the executed actions, numbers [{ACTION_DIM}, {chunks}, {size}], got {list(executed.shape)}"
            )
        executed = executed.transpose(1, 2, 0)
        self._reader.check_limits("executed action", executed.reshape(-1, ACTION_DIM))
        self._fed = frames, executed
        self._is_waiting = False
        return {}

    def _infer(self, policy: Policy, message: Mapping[str, Any]) -> dict[str, Any]:
        """Decides actions after the stored frames, or after the first frame."""
        if self._is_waiting:
            raise RequestError("frames must be fed back before actions are asked for again ({compute_kv_cache: true, ...})")
        began = time.perf_counter()
        self._memory.admit(policy)
        if self._fed is None:
            if policy.last is not None:
                raise RequestError("this episode has begun: feed frames back, or reset")
            first = self._frames(message.get("obs"), 1)[0]
            chunk = policy.act(first.rgb, first.proprio)
        else:
            frames, executed = self._fed
            while len(frames) > 1:
                policy.watch(frames[0].rgb, frames[0].proprio, executed[0])
                frames, executed = self._fed = frames[1:], executed[1:]  # whatever fails from here on, it is not watched again
            chunk = policy.act(frames[0].rgb, frames[0].proprio, executed[0])
        self._fed, self._is_waiting = None, True
        self._memory.note(policy)
        whole = np.concatenate([chunk, policy.rest]).reshape(-1, policy.chunk, ACTION_DIM)
        return {"action": whole.transpose(2, 0, 1).copy(), "policy_timing": {"infer_ms": 1e3 * (time.perf_counter() - began)}}

    def _frames(self, given: Any, count: int) -> list[Observation]:
        frames: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
        if len(frames) != count or not all(isinstance(frame, Mapping) for frame in frames):
            raise RequestError(f"obs holds {count} frame(s) here, each a map of images and state, got {len(frames)}")
        return [self._reader.observation(self._reader.flat(frame)) for frame in frames]
