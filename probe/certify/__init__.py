"""Certificates: proofs that no perturbation up to a size changes the answer of a network, or of a smoothed one."""
