"""Motion of the experts: kinematics, inverse kinematics, time-parametrised plans, the unified action, skills."""

__all__ = [
    "action",
    "clearance",
    "frames",
    "hand",
    "handling",
    "handover",
    "ik",
    "kinematics",
    "outlines",
    "plan",
    "pour",
    "press",
    "skills",
    "transfer",
]
