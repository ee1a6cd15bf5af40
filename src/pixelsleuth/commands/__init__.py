"""Commands with so many options that they have rooms of their own; like cli.py they parse and call."""
