"""How experts move: kinematics, inverse kinematics, time-parametrised plans, the unified action, skills."""
