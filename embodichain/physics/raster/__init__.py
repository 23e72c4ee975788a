"""The rasteriser: pictures on the CPU without rays."""
