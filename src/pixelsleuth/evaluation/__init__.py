"""Measure a detector: metrics with intervals, the evaluation protocol, the shortcut audit."""
