"""USD files of assets: writing, reading back, and what our checks and the public validators say of them."""
