"""What a file says of itself and how it was compressed, beside what the model says of its pixels. None of it proves."""
