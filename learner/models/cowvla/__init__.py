"""CoWVLA: keyframes, motions and actions as one sequence of tokens, decoded autoregressively."""
