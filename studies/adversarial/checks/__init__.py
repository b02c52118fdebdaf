"""The validity checks: one file each, from the evidence to a Check."""
