"""The attacks: one file per family; each attack is a frozen dataclass whose fields are its options."""
