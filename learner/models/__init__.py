"""World models: one interface, and a folder for each family."""
