"""Networks: tensors in, tensors out. A prior sees integers, never images."""
