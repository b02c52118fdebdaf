"""The structures that can be removed from a network, one file each."""
