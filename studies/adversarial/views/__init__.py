"""Views of the adversarial report: each file computes one Section from the workspace."""
