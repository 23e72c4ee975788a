"""A distribution of somebody else's: what it adds to EmbodiChain stands in its pyproject.toml."""
