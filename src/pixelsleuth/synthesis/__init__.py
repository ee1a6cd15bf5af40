"""Make normal images and scans anomalous on purpose, and treat them as cameras and messengers do."""
