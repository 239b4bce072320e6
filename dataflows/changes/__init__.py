"""What a change of definitions means for state: by name, which replay it takes, and how long."""
