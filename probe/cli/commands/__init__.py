"""The commands of the command line, one file each; every module has the ``command`` of its own name."""
