"""What the API says: operations, shapes, kinds, ARNs and errors, read from botocore's data."""
