"""Reading: pictures, faces, stores, and pictures made anomalous on purpose. Knows nothing of models."""
