"""What can be exchanged for what, one file each."""
