"""From a messy mesh to a validated, physical USD asset."""
