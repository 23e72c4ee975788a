"""USD files of assets: writing, reading back, our own checks, and the public validators."""
