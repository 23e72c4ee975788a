"""From a messy mesh to a validated, physical USD asset: source, repair, physical, collision, articulate, usd, validate, optimize."""
