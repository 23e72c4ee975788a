"""Where things stand: the robot's reachable set, layout without penetration, and the sampler that turns a task's request into a Scene."""
