"""The stream: sources, windows, joins, learning, sinks, replay."""
