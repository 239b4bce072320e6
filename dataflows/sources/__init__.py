"""From log records to columns: decoding, effective times, positions, and the adapters that read."""
