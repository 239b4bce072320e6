"""What two processes must agree on. Imports nothing else of Headwater."""
