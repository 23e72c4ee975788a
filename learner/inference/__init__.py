"""Policies that drive a robot with a trained agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.inference.background import SpeculativePolicy, make_policy
    from learner.inference.chunking import LatePolicy
    from learner.inference.config import SaiConfig
    from learner.inference.policy import ChunkOrigin, Inference, Policy
    from learner.inference.policy_file import Setup, load_agent, load_setup, save_agent

__all__ = [
    "ChunkOrigin",
    "Inference",
    "LatePolicy",
    "Policy",
    "SaiConfig",
    "Setup",
    "SpeculativePolicy",
    "load_agent",
    "load_setup",
    "make_policy",
    "save_agent",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["SpeculativePolicy", "make_policy"], "background")
    | dict.fromkeys(["LatePolicy"], "chunking")
    | dict.fromkeys(["SaiConfig"], "config")
    | dict.fromkeys(["Inference", "ChunkOrigin", "Policy"], "policy")
    | dict.fromkeys(["Setup", "load_agent", "load_setup", "save_agent"], "policy_file"),
)
