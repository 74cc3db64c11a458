"""What somebody does with s3fs, in an environment of its own: its client allows few releases of botocore."""

import sys

import s3fs

url, bucket = sys.argv[1:]
files = s3fs.S3FileSystem(
    client_kwargs={"endpoint_url": url, "region_name": "us-east-1"}, skip_instance_cache=True
)
with files.open(f"{bucket}/d/one", "wb") as file:
    file.write(b"x" * (6 * 1024 * 1024))
with files.open(f"{bucket}/d/two", "wb") as file:
    file.write(b"two")
print(*sorted(files.ls(f"{bucket}/d")))
with files.open(f"{bucket}/d/one", "rb") as file:
    file.seek(-4, 2)
    print(file.read().decode())
print(files.cat(f"{bucket}/d/two").decode())
files.rm(f"{bucket}/d", recursive=True)
print("left" if files.exists(f"{bucket}/d/two") else "gone")
