"""What the learner reads of the ring: leases, windows, batches."""
