"""The causes: one file each, which turns the evidence into a Diagnosis."""
