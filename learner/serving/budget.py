"""How much memory the sessions of a server may take together, and the error that refuses a request."""

from __future__ import annotations

from embodichain.errors import EmbodiChainError
from learner.inference.policy import Policy


class RequestError(EmbodiChainError):
    """A request that cannot be answered; the session is unchanged."""


class Memory:
    """Tracks the memory of all sessions of a server against a limit. Only the inference thread may use it.

    A memory may grow with the frames of its episode. So every session counts with the largest memory that any has had, from its
    beginning on, when it holds nothing yet. The server learns that size before its first client comes (`PolicyServer.warm_up`).
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._has_acted: dict[int, bool] = {}
        """The sessions by policy: whether a session has had a frame yet."""
        self.each_bytes = 0
        """Largest memory of any session so far [B]."""

    def ask(self) -> None:
        """Raises RequestError when a further session might exceed the limit."""
        self._check(len(self._has_acted))

    def reserve(self, policy: Policy, instead_of: Policy | None = None) -> None:
        """Counts a session that begins; with `instead_of` it takes the place of one that will be forgotten."""
        self._has_acted[id(policy)] = instead_of is not None and self._has_acted.get(id(instead_of), False)

    def admit(self, policy: Policy) -> None:
        """Raises RequestError when the first frame of a session might exceed the limit, as sizes were unknown when it began."""
        if not self._has_acted.get(id(policy), False):
            self._check(sum(self._has_acted.values()))

    def note(self, policy: Policy) -> None:
        """Updates the memory of a session after a frame."""
        self._has_acted[id(policy)] = True
        self.each_bytes = max(self.each_bytes, policy.memory.size_bytes)

    def _check(self, others: int) -> None:
        held = others * self.each_bytes
        if held + self.each_bytes > self._most_bytes:
            raise RequestError(
                f"{others} sessions hold {held / 2**20:.0f} MiB, one more takes {self.each_bytes / 2**20:.0f}, and "
                f"{self._most_bytes / 2**20:.0f} are allowed (--max-memory-mib); end one with reset, or ask again later"
            )

    def forget(self, policy: Policy) -> None:
        """Removes a session that has ended."""
        self._has_acted.pop(id(policy), None)
