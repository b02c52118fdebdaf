"""What ``import probe`` offers: the studies, the tools, and the building blocks as plain functions."""
