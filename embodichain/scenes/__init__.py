"""Where things stand: the reachable set, layout without penetration, and the sampler of scenes."""
