"""The attacks: one file a family, each entry a frozen dataclass whose fields are its options."""
