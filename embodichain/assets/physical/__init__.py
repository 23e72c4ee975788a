"""The physics of a mesh: mass, grasps, and how the finished asset behaves in simulation."""
