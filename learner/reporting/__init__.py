"""Reports for people: charts, pictures, the report of a run, and the fit of the Efficiency Law."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.reporting.efficiency import EfficiencyFit, fit_efficiency
    from learner.reporting.pictures import save_film, save_strip
    from learner.reporting.report import write_report
    from learner.reporting.sweep import Curve, Result

__all__ = [
    "Curve",
    "EfficiencyFit",
    "Result",
    "fit_efficiency",
    "save_film",
    "save_strip",
    "write_report",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["EfficiencyFit", "fit_efficiency"], "efficiency")
    | dict.fromkeys(["save_film", "save_strip"], "pictures")
    | dict.fromkeys(["write_report"], "report")
    | dict.fromkeys(["Curve", "Result"], "sweep"),
)
