"""What `headwater demo` is made of."""
