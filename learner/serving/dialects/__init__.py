"""Protocols of other projects' clients."""
