"""Memory of constant size: test-time training."""
