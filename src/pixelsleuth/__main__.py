"""`python -m pixelsleuth`."""

from pixelsleuth.cli import main

if __name__ == "__main__":
    main()
