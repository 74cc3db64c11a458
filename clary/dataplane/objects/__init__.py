"""S3: buckets and objects, answered by the door itself."""
