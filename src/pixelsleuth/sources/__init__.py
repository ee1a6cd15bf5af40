"""Read inputs: images, videos, volumes and the faces in them. Knows nothing of data sets and models."""
