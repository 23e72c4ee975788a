"""What single camera frames teach: encoders, segmenters, probes."""
