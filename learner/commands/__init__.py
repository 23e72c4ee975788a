"""The learner's commands, one file each."""
