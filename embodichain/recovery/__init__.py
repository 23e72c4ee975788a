"""Failures and recovery: experts are provoked into mistakes, notice them and make them good."""

__all__ = [
    "config",
    "provoke",
    "retry",
    "trial",
    "watch",
]
