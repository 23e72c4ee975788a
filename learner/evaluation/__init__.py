"""Evaluates policies in closed loop in held-out scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.evaluation.config import EvaluateConfig, Shift
    from learner.evaluation.episodes import (
        Graded,
        Played,
        Policy,
        PolicyPilot,
        RandomPilot,
        Score,
        StillPilot,
        baselines,
        evaluate,
        expert,
        scores,
        wilson,
    )
    from learner.evaluation.held_out import HeldOut
    from learner.evaluation.suite import JudgeConfig, Judgement, judge, summarise

__all__ = [
    "EvaluateConfig",
    "Graded",
    "HeldOut",
    "JudgeConfig",
    "Judgement",
    "Played",
    "Policy",
    "PolicyPilot",
    "RandomPilot",
    "Score",
    "Shift",
    "StillPilot",
    "baselines",
    "evaluate",
    "expert",
    "judge",
    "scores",
    "summarise",
    "wilson",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["EvaluateConfig", "Shift"], "config")
    | dict.fromkeys(
        [
            "Graded",
            "Played",
            "Policy",
            "PolicyPilot",
            "RandomPilot",
            "Score",
            "StillPilot",
            "baselines",
            "evaluate",
            "expert",
            "scores",
            "wilson",
        ],
        "episodes",
    )
    | dict.fromkeys(["HeldOut"], "held_out")
    | dict.fromkeys(["JudgeConfig", "Judgement", "judge", "summarise"], "suite"),
)
