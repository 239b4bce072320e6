"""An MLflow model registry beside the model repository: what is mirrored, and what comes back."""
