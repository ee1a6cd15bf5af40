"""What a detector is compared with: other methods behind one interface, a file each. None takes part in a verdict."""
