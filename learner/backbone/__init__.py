"""Parts that every world model is built from."""
