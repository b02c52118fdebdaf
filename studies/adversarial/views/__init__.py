"""The parts of the adversarial report: one file each, compute from the workspace to a Section."""
