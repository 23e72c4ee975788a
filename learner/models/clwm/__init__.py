"""The Causal Latent World Model."""
