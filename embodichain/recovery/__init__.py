"""Failures and recovery: experts are provoked into failures, notice them and recover."""

__all__ = ["config", "provoke", "retry", "trial", "watch"]
