"""How good a detector is: metrics with intervals, the protocol that measures, the shortcut audit."""
