"""Views of the filters report: each file computes one Section from the workspace."""
