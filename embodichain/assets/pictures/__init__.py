"""Pictures of assets: previews, turntables and the gallery."""
