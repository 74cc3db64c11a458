"""Code that runs inside a job or an endpoint, in the environment of its image."""
