"""Which channels matter: the network without single channels, and cheaper measures beside it."""
