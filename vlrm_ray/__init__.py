"""vlrm-ray: train vision-language reward models that look at the image, on Ray."""

__version__ = "0.1.0"
