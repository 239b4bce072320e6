"""Rebuilds from the log, beside the running flow, in whole or in part, and hands over."""
