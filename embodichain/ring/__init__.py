"""The bounded, lock-free ring of trajectories in shared memory."""
