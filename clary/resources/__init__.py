"""SageMaker's own table of contents: one folder per family, one file per kind or operation."""
