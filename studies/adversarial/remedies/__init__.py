"""Remedies: each file answers some checks that failed, with other gradients or other attacks; ``--adapt`` applies them."""
