"""Read inputs: images, videos, volumes, faces, stores, and synthetic anomalies. Knows nothing of models."""
