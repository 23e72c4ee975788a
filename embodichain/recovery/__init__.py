"""Failures and recovery: experts are provoked into mistakes, notice them and make them good."""

__all__ = ["provoke", "recovery", "trial", "watch"]
