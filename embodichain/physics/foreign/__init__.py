"""Other people's benchmarks as physics: each in a Python environment of its own, with the versions that it asks for.

A host process holds the benchmark's environments (`hosts`), `wire` talks to it, `likeness` draws what it shows, `physics` is both.
"""
