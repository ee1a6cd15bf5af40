"""Other methods to compare the detector with, behind one interface, one file each. No verdict rests on them."""
