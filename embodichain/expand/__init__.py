"""Domain expansion: what makes episodes differ beyond their layout."""
