"""External benchmarks (Meta-World, robosuite) as physics, each in its own Python environment with the versions that it needs.

A host process runs the benchmark's environments (`hosts`), `wire` communicates with it, `likeness` holds a copy of its model for
our painters, and `physics` combines these into a physics.
"""
