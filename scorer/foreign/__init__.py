"""Protocols of other projects that the scorer speaks; their stubs keep to a pool of their own."""
