"""The swaps of one structure for another, one file each."""
