"""Speed on this machine: what is measured, how, and beside what."""
