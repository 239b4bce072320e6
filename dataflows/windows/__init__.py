"""Windowed aggregates over event time: arrays and arithmetic, without I/O, clock or framework."""
