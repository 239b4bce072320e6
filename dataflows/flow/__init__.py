"""The Bytewax side: thin adapters around the pure parts, and the one flow made of them."""
