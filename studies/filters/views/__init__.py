"""The views of the filters study: one file each, found by the registry."""
