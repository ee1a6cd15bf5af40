"""Evidence beside the pixels: what a file says of itself and how it was compressed. None of it is proof."""
