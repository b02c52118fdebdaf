"""The causes: one file each, from the evidence to a Diagnosis."""
