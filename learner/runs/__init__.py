"""Whole runs: configuration, sessions, learner processes, and where trained weights lie."""
