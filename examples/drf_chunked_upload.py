"""Uploads a file as clients of drf-chunked-upload do: chunks in order, then the checksum of the whole.

python3 drf_chunked_upload.py FILE [URL]    needs the package "requests"
"""

import hashlib
import os
import sys

import requests

CHUNK_BYTES = 4 * 1024 * 1024


def upload(path: str, collection: str) -> dict:
    total, offset, url = os.path.getsize(path), 0, collection
    digest, state = hashlib.md5(), {}
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            end = offset + len(chunk) - 1
            answer = requests.put(
                url,
                headers={"Content-Range": f"bytes {offset}-{end}/{total}"},
                data={"filename": os.path.basename(path)},
                files={"file": chunk},
                timeout=60,
            )
            answer.raise_for_status()
            state = answer.json()
            url, offset = state["url"], state["offset"]
    answer = requests.post(url, data={"md5": digest.hexdigest()}, timeout=60)
    answer.raise_for_status()
    return answer.json()


if __name__ == "__main__":
    where = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8080/chunked/"
    print(upload(sys.argv[1], where)["url"])
