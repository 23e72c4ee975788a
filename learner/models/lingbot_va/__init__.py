"""LingBot-VA: video and actions interleaved in one causal sequence."""
