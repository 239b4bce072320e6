"""What was served, held against a replay of the log: ``headwater verify``."""
