"""Validity checks: each file computes one Check from the evidence."""
