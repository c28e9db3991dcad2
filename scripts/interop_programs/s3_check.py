"""Looks at blobs in the S3-compatible store where a coordinator put them.

s3_check.py bucket    makes the bucket, once the store answers
s3_check.py blobs     every object is what its name says, one came in several parts, and no upload was left open
"""

import hashlib
import os
import sys
import time

import boto3
from botocore.exceptions import EndpointConnectionError

bucket, prefix = os.environ["WATERSHED_BLOBS"].removeprefix("s3://").split("/", 1)
store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"], region_name=os.environ["AWS_REGION"])


def make_bucket():
    for _ in range(300):
        try:
            return store.create_bucket(Bucket=bucket)
        except EndpointConnectionError:
            time.sleep(0.1)
    sys.exit("the store does not answer")


def blobs():
    objects = []
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        objects += page.get("Contents", [])
    assert objects, "the store is empty"
    total = parts = 0
    for entry in objects:
        key = entry["Key"]
        name = key.rsplit("/", 1)[1]
        assert key == f"{prefix}/{name[:2]}/{name}", key
        stored = store.get_object(Bucket=bucket, Key=key)
        body = stored["Body"].read()
        assert hashlib.sha256(body).hexdigest() == name, f"{key} is not what its name says"
        # The tag of an upload in parts ends with their number.
        parts = max(parts, int((stored["ETag"].strip('"').split("-") + ["0"])[1]))
        total += len(body)
    assert parts > 1, "no blob was uploaded in several parts"
    left = store.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert not left, f"uploads that were neither finished nor given up: {left}"
    print(f"{len(objects)} blobs, {total} bytes, the largest upload in {parts} parts: as their names say")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bucket"]:
            make_bucket()
        case ["blobs"]:
            blobs()
        case _:
            sys.exit(__doc__)
