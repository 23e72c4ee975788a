"""The learner: encodes the streamed frames, trains the world model and judges the policy in closed loop."""
