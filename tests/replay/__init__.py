"""Tests of ``dataflows.replay``."""
