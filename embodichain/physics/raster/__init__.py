"""The rasteriser: renders pictures on the CPU by projecting triangles."""
