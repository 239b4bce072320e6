"""Drift of a model's vectors, scores and errors, over event time; pure logic."""
