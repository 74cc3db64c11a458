"""Models, endpoint configurations, endpoints and all that serves predictions."""
