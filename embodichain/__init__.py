"""EmbodiChain: a streaming engine that turns compute into fresh, bounded, physically valid robot experience."""

__version__ = "0.1.0"
