"""The commands, a file each: they parse, call, and print; no science lives here."""
