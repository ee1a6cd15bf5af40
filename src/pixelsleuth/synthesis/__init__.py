"""Make normal images and scans anomalous on purpose; treat images as cameras do, or worsen them by degrees."""
