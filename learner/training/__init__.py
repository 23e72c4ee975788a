"""The training step and what it runs on."""
