"""Operation of the engine: a doctor, a plan, fault injection, and a page to watch runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from embodichain.operations.doctor import Finding, Severity, examine
    from embodichain.operations.plan import Expectation, Rates, expect, rates_of

__all__ = ["Expectation", "Finding", "Rates", "Severity", "examine", "expect", "rates_of"]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["Finding", "Severity", "examine"], "doctor")
    | dict.fromkeys(["Expectation", "Rates", "expect", "rates_of"], "plan"),
)
