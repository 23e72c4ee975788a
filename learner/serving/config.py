"""How a policy is served. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from embodichain.errors import ConfigError, unknown
from learner.inference.config import SaiConfig

_NOT_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[\ud800-\udc7f\udd00-\udfff]")
"""Control characters, and halves of characters that stand for no byte."""
DIALECTS = ("openpi", "lingbot", "native")
"""Protocols. openpi: each request is an observation, each reply a chunk. lingbot: frames and executed actions are sent in requests
of their own (`serving.dialects.lingbot`). native: this project's own, with everything that a policy can tell
(`serving.dialects.native`)."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a policy is served."""

    host: str = "127.0.0.1"
    port: int = 8000
    """TCP port; 0 takes any free one."""
    api_key: str = ""
    """Key that clients must send as `Authorization: Api-Key ...`, in UTF-8; empty asks for none."""
    max_message_bytes: int = 32 * 2**20
    max_connections: int = 32
    max_sessions: int = 16
    """Most sessions on each connection."""
    max_memory_mib: int = 4096
    """Most memory of all sessions together [MiB]; a further session is refused."""
    rename: dict[str, str] = field(default_factory=dict)
    sai: SaiConfig | None = None
    """Speculation between requests; None computes everything on request."""
    seed: int = 0
    dialect: str = "openpi"
    """The protocol of clients, one of `DIALECTS`."""

    def __post_init__(self) -> None:
        if self.dialect not in DIALECTS:
            raise unknown("dialect", self.dialect, DIALECTS)
        if self.api_key.strip(" \t") != self.api_key or _NOT_IN_HEADERS.search(self.api_key):
            raise ConfigError(
                "api_key begins or ends with a blank, or holds a line break or another control character, and no client can send "
                "such a header: use letters, digits and signs (a key read from a file often ends with a line break)"
            )
        if twice := [ours for ours, count in Counter(self.rename.values()).items() if count > 1]:
            theirs = " and ".join(repr(name) for name, ours in self.rename.items() if ours == twice[0])
            raise ConfigError(f"rename has {theirs} both mean {twice[0]!r}, and a request may hold both: leave one of them out")
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port must be 0..65535, got {self.port}")
        if self.max_memory_mib < 1:
            raise ConfigError(f"max_memory_mib must be at least 1, got {self.max_memory_mib}")
        if self.max_message_bytes < 1 or self.max_connections < 1 or self.max_sessions < 1:
            raise ConfigError("max_message_bytes, max_connections and max_sessions must be at least 1")
