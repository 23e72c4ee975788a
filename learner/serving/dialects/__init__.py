"""Ways in which other projects' clients speak to a policy."""
