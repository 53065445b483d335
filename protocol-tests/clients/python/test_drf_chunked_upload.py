"""Clients of drf-chunked-upload, as `requests` sends them. Rule numbers: docs/contract/drf-chunked-upload.md."""

import hashlib
import subprocess
import sys
from pathlib import Path

import requests

from support import MIB, ClientTestCase, content

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/drf_chunked_upload.py"


class DrfChunkedUploadTest(ClientTestCase):
    @property
    def collection(self) -> str:
        return self.server.url.removesuffix("/files") + "/chunked/"

    def test_p001_to_p003_example_client_uploads_a_file(self):
        data = content(9 * MIB + 1)
        path = self.file(data)
        command = [sys.executable, EXAMPLE, path, self.collection]
        printed = subprocess.run(command, capture_output=True, text=True, check=True)
        url = printed.stdout.strip()
        state = requests.get(url, timeout=10).json()
        self.assertEqual((state["status"], state["offset"]), (2, len(data)))
        self.assertEqual(state["filename"], Path(path).name)
        self.assert_stored(state["file"], data)

    def test_p119_chunk_is_repeated_after_its_answer_was_lost(self):
        data = content(3 * MIB)
        url, state = self.collection, {}
        for start in range(0, len(data), MIB):
            for _ in range(2 if start else 1):
                answer = requests.put(
                    url,
                    headers={"Content-Range": f"bytes {start}-{start + MIB - 1}/{len(data)}"},
                    data={"filename": "a"},
                    files={"file": data[start : start + MIB]},
                    timeout=10,
                )
                state = answer.json()
                self.assertEqual((answer.status_code, state["offset"]), (200, start + MIB))
            url = state["url"]
        wrong = requests.post(url, json={"md5": "00"}, timeout=10)
        self.assertEqual(wrong.json(), {"detail": "checksum does not match"})
        right = requests.post(url, json={"md5": hashlib.md5(data).hexdigest()}, timeout=10)
        self.assertEqual(right.json()["status"], 2)
        self.assert_stored(state["file"], data)
