"""TusClient of `resumable_upload` 0.3.0, its synchronous and its asynchronous form.

Both have the same methods, so every test runs with both. Rule numbers are those of the wire
contract (wire/tus.md).
"""

import asyncio
import base64
import hashlib
import inspect
import io
import subprocess
import sys
import unittest

from resumable_upload import (
    AsyncTusClient,
    AsyncUploader,
    FileURLStorage,
    InMemoryURLStorage,
    SQLiteURLStorage,
    TusClient,
    TusCommunicationError,
    TusUploadFailed,
)

from support import KIB, MIB, ClientTestCase, CuttingProxy, content, needs_own_server, until

#: Every way to ask for checksums, and the name that then goes over the wire (C-26).
CHECKSUMS = {
    True: "sha1",
    "sha1": "sha1",
    "sha256": "sha256",
    "SHA512": "sha512",
    "md5": "md5",
    False: None,
}

#: The client's public methods. One that a later version adds needs tests here.
METHODS = {
    "create_deferred_upload",
    "create_final_upload",
    "create_partial_upload",
    "create_uploader",
    "delete_upload",
    "find_previous_uploads",
    "get_file_size",
    "get_metadata",
    "get_server_info",
    "get_upload_info",
    "resume_upload",
    "upload_file",
}
SYNC_ONLY_METHODS = {"encode_metadata", "get_file_stream", "get_headers", "update_headers"}
ASYNC_ONLY_METHODS = {"aclose"}

#: A retry is never waited for longer than a test needs.
RETRY_DELAY_SECONDS = 0.05

EXTENSIONS = {
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "termination",
    "checksum",
    "checksum-trailer",
    "concatenation",
}


def public_methods(client: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(client, inspect.isfunction) if name[0] != "_"}


class Interrupted(Exception):
    """Stops a client in the middle; no OSError, since those it would retry."""


class Requests(list):
    """What a client sent: (method, URL, header fields), to be given as `before_request`."""

    def __call__(self, method: str, url: str, fields: dict[str, str]) -> None:
        self.append((method, url, dict(fields)))

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self]

    @property
    def patches(self) -> list[dict[str, str]]:
        """The header fields of each request that carried data."""
        return [fields for _, _, fields in self if "Upload-Offset" in fields]

    @property
    def created(self) -> list[dict[str, str]]:
        """The header fields of each request that created an upload."""
        return [fields for method, _, fields in self if method == "POST"]

    @property
    def offsets(self) -> list[int]:
        return [int(fields["Upload-Offset"]) for fields in self.patches]


class SpoiledRequests(Requests):
    """Gives the chunk at one offset the checksum of other bytes."""

    def __init__(self, checksum: str, at: int):
        super().__init__()
        digest = hashlib.new(checksum, b"other bytes").digest()
        self._at, self._value = str(at), f"{checksum} {base64.b64encode(digest).decode()}"

    def __call__(self, method: str, url: str, fields: dict[str, str]) -> None:
        super().__call__(method, url, fields)
        if fields.get("Upload-Offset") == self._at:
            fields["Upload-Checksum"] = self._value


class Contract:
    """The tests, for a client that `client()` makes and that blocks until it is done."""

    def client(self, url: str | None = None, **options):
        raise NotImplementedError

    def upload_through_cuts(self, client, url: str, data: bytes) -> None:
        """Uploads the rest although connections break on the way."""
        raise NotImplementedError

    def test_c20_get_server_info(self):
        info = self.client().get_server_info()
        self.assertEqual(info["version"], "1.0.0")
        self.assertEqual(set(info["extensions"]), EXTENSIONS)
        self.assertIsNone(info["max_size"])

    @needs_own_server
    def test_c20_get_server_info_with_limits(self):
        server = self.own_server("--max-size", "12345", "--expire-after", "1h")
        info = self.client(server.url).get_server_info()
        self.assertEqual(set(info["extensions"]), EXTENSIONS | {"expiration"})
        self.assertEqual(info["max_size"], 12345)

    def test_c21_c26_upload_file_with_each_checksum(self):
        data = content(2 * MIB + MIB // 2)
        for checksum, algorithm in CHECKSUMS.items():
            with self.subTest(checksum=checksum):
                requests = Requests()
                client = self.client(checksum=checksum, before_request=requests)
                url = client.upload_file(self.file(data))
                self.assertEqual(requests.methods, ["POST", "HEAD", "PATCH", "PATCH", "PATCH"])
                for fields in requests.patches:
                    sent = fields.get("Upload-Checksum", "none").split(" ")[0]
                    self.assertEqual(sent, algorithm or "none")
                self.assert_stored(url, data)

    def test_c21_upload_file_of_edge_sizes(self):
        for size in (0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB, MIB + 1):
            with self.subTest(size=size):
                data = content(size)
                self.assert_stored(self.client().upload_file(self.file(data)), data)

    def test_c21_upload_file_from_a_stream(self):
        data = content(MIB + 1)
        url = self.client().upload_file(file_stream=io.BytesIO(data))
        self.assert_stored(url, data)

    def test_c21_progress_callback_sees_every_chunk(self):
        seen = []
        self.client().upload_file(
            self.file(content(2 * MIB + 5)),
            progress_callback=lambda stats: seen.append(stats.uploaded_bytes),
        )
        self.assertEqual(seen, [MIB, 2 * MIB, 2 * MIB + 5])

    def test_c20_t020_many_chunks_in_sequence(self):
        data = content(300 * KIB + 1)
        url = self.client(chunk_size=KIB).upload_file(self.file(data))
        self.assert_stored(url, data)

    def test_c25_stop_at_and_resume_upload_with_each_checksum(self):
        data = content(3 * MIB + 7)
        stop_at = MIB + MIB // 2
        for checksum in CHECKSUMS:
            with self.subTest(checksum=checksum):
                client = self.client(checksum=checksum)
                url = client.upload_file(self.file(data), stop_at=stop_at)
                info = client.get_upload_info(url)
                self.assertEqual((info["offset"], info["length"]), (stop_at, len(data)))
                self.assertFalse(info["complete"])
                self.assertEqual(self.request("GET", url)[::2], (204, b""), "D-61: no bytes yet")
                requests = Requests()
                client = self.client(checksum=checksum, before_request=requests)
                self.assertEqual(client.resume_upload(self.file(data), url), url)
                self.assertEqual(requests.offsets, [stop_at, stop_at + MIB])
                self.assert_stored(url, data)

    def test_c25_resume_upload_of_a_complete_upload_sends_nothing(self):
        data = content(1000)
        requests = Requests()
        client = self.client(before_request=requests)
        url = client.upload_file(self.file(data))
        requests.clear()
        client.resume_upload(upload_url=url, file_stream=io.BytesIO(data))
        self.assertEqual(requests.methods, ["HEAD"])

    def test_d15_resume_upload_of_an_unknown_url_is_404(self):
        for id in ("nothing-here", "a%2Fb", "..%2Fx", "%00"):
            with self.subTest(id=id), self.assert_refused(404):
                self.client().resume_upload(self.file(b"x"), f"{self.server.url}/{id}")

    def test_create_uploader_goes_chunk_by_chunk(self):
        data = content(2 * MIB + 1)
        client = self.client()
        uploader = client.create_uploader(self.file(data), chunk_size=MIB)
        self.addCleanup(uploader.close)
        self.assertEqual([uploader.upload_chunk() for _ in range(3)], [True, True, False])
        self.assertTrue(uploader.is_complete)
        self.assertEqual(uploader.stats.uploaded_bytes, len(data))
        self.assert_stored(uploader.url, data)

    def test_c27_f41_a_stale_offset_is_synchronised_after_409(self):
        # 8 MiB: the 409 has to survive a body that the client is still sending (D-48).
        data = content(24 * MIB)
        client = self.client(chunk_size=8 * MIB)
        first = client.create_uploader(self.file(data))
        self.addCleanup(first.close)
        requests = Requests()
        stale = self.client(chunk_size=8 * MIB, before_request=requests).create_uploader(
            self.file(data), upload_url=first.url
        )
        self.addCleanup(stale.close)
        first.upload_chunk()
        stale.upload()
        self.assertEqual(requests.offsets, [0, 8 * MIB, 16 * MIB])
        self.assertEqual(requests.methods, ["HEAD", "PATCH", "HEAD", "PATCH", "PATCH"])
        self.assert_stored(first.url, data)

    def test_c24_create_deferred_upload_with_each_checksum(self):
        for size in (0, 2 * MIB, 2 * MIB + 1):
            for checksum in CHECKSUMS:
                with self.subTest(size=size, checksum=checksum):
                    data = content(size)
                    client = self.client(checksum=checksum)
                    url = client.create_deferred_upload({"filename": "later.bin"})
                    _, fields, _ = self.request("HEAD", url)
                    self.assertEqual(fields["Upload-Defer-Length"], "1", "T-050")
                    self.assertIsNone(fields["Upload-Length"], "T-050")
                    info = client.get_upload_info(url)
                    self.assertEqual((info["offset"], info["complete"]), (0, False))
                    self.assertEqual(client.resume_upload(self.file(data), url), url)
                    self.assert_stored(url, data)
                    self.assertEqual(client.get_metadata(url), {"filename": "later.bin"})

    def test_c24_d17_the_length_may_be_sent_again_after_a_cut(self):
        data = content(3 * MIB)
        for checksum in (True, False):
            for manner in CuttingProxy.MANNERS:
                with self.subTest(checksum=checksum, manner=manner):
                    proxy = self.proxy()
                    client = self.client(proxy.url, checksum=checksum)
                    url = client.create_deferred_upload()
                    proxy.cut_after(MIB // 2, manner=manner)
                    self.upload_through_cuts(client, url, data)
                    self.assertEqual(proxy.cuts, 1)
                    self.assert_stored(url, data)

    def test_c28_cut_connections_are_survived(self):
        data = content(10 * MIB)
        for manner in CuttingProxy.MANNERS:
            for checksum in (True, False):
                with self.subTest(manner=manner, checksum=checksum):
                    proxy = self.proxy()
                    requests = Requests()
                    client = self.client(
                        proxy.url, checksum=checksum, chunk_size=4 * MIB, before_request=requests
                    )
                    url = client.upload_file(self.file(data), stop_at=1)
                    # The synchronous client repeats a request silently when a connection that it
                    # used before breaks; the second cut is one that it knows of.
                    proxy.cut_after(6 * MIB, MIB, manner=manner)
                    self.upload_through_cuts(client, url, data)
                    self.assertEqual(proxy.cuts, 2)
                    if checksum:
                        # T-084, D-25: a broken chunk is gone, so each begins where one ended.
                        borders = {0, 1, 4 * MIB + 1, 8 * MIB + 1}
                        self.assertEqual(set(requests.offsets), borders)
                    self.assert_stored(url, data)

    def test_c30_parallel_uploads_with_each_checksum(self):
        data = content(4 * MIB + 1)
        for checksum in CHECKSUMS:
            with self.subTest(checksum=checksum):
                requests = Requests()
                client = self.client(checksum=checksum, before_request=requests)
                url = client.upload_file(
                    self.file(data),
                    metadata={"filename": "whole.bin"},
                    parallel_uploads=3,
                    metadata_for_partial_uploads={"part": "yes"},
                )
                self.assert_stored(url, data)
                self.assertEqual(client.get_metadata(url), {"filename": "whole.bin"}, "T-106")
                final = requests.created[-1]["Upload-Concat"]
                parts = final.removeprefix("final;").split(" ")
                self.assertEqual(len(parts), 3)
                self.assertEqual(self.request("HEAD", url)[1]["Upload-Concat"], final, "T-112")
                for part in parts:
                    self.assertEqual(client.get_metadata(part), {"part": "yes"})
                    self.assertEqual(self.request("HEAD", part)[1]["Upload-Concat"], "partial")

    def test_c30_parallel_uploads_of_edge_sizes(self):
        for size, parts in ((0, 3), (2, 3), (3, 3), (1, 1)):
            with self.subTest(size=size, parts=parts):
                data = content(size)
                url = self.client().upload_file(self.file(data), parallel_uploads=parts)
                self.assert_stored(url, data)

    def test_c30_an_interrupted_parallel_upload_resumes_its_parts(self):
        data = content(6 * MIB)
        storage = InMemoryURLStorage()

        def interrupt(method, url, fields):
            if fields.get("Upload-Offset") == str(MIB):
                raise Interrupted

        client = self.client(store_url=True, url_storage=storage, before_request=interrupt)
        with self.assertRaises(Interrupted):
            client.upload_file(self.file(data), parallel_uploads=2)
        requests = Requests()
        client = self.client(store_url=True, url_storage=storage, before_request=requests)
        url = client.upload_file(self.file(data), parallel_uploads=2)
        self.assertEqual(len(requests.created), 1, "only the final upload is created")
        self.assertEqual(requests.offsets.count(0), 0, "both parts are resumed")
        self.assert_stored(url, data)

    def test_c30_create_partial_and_final_upload(self):
        first, second = content(MIB + 1, 1), content(500, 2)
        client = self.client()
        a = client.create_partial_upload(self.file(first), metadata={"part": "a"})
        b = client.create_partial_upload(file_stream=io.BytesIO(second))
        empty = client.create_partial_upload(file_stream=io.BytesIO(b""))
        self.assertEqual(self.request("GET", a)[::2], (204, b""), "D-61: no bytes of a part")
        for parts, expected in (
            ([a, b], first + second),
            ([b, a], second + first),
            ([b, b, empty, b], second * 3),
            ([empty, empty], b""),
            ([a.removeprefix(self.server.url.removesuffix("/files"))], first),
        ):
            with self.subTest(parts=parts):
                url = client.create_final_upload(parts, metadata={"filename": "joined"})
                self.assert_stored(url, expected)
                self.assertEqual(client.get_metadata(url), {"filename": "joined"})

    def test_c30_d33_a_final_upload_over_bad_parts_is_refused(self):
        part = self.client(headers={"Upload-Concat": "partial"})
        client = self.client()
        finished = client.create_partial_upload(file_stream=io.BytesIO(b"abc"))
        unfinished = part.upload_file(self.file(content(2 * MIB)), stop_at=MIB)
        whole = client.upload_file(self.file(b"whole"))
        final = client.create_final_upload([finished])
        for status, bad in (
            (400, unfinished),
            (400, whole),
            (400, final),
            (404, f"{self.server.url}/nothing-here"),
        ):
            with self.subTest(bad=bad), self.assert_refused(status):
                client.create_final_upload([finished, bad])

    def test_c37_delete_upload(self):
        client = self.client()
        finished = client.upload_file(self.file(content(1000)))
        unfinished = client.upload_file(self.file(content(2 * MIB)), stop_at=MIB)
        for url in (finished, unfinished, client.create_deferred_upload()):
            client.delete_upload(url)
            self.assert_gone(url)
            client.delete_upload(url)  # 404, which the client takes for success

    @needs_own_server
    def test_c37_d15_delete_upload_of_an_expired_one_is_no_error(self):
        server = self.own_server("--expire-after", "2s")
        client = self.client(server.url)
        url = client.upload_file(self.file(content(2 * MIB)), stop_at=MIB)
        until("404", lambda: self.request("HEAD", url, server)[0] == 404)
        with self.assert_refused(404):
            client.get_upload_info(url)
        client.delete_upload(url)

    def test_c38_get_upload_info(self):
        data = content(MIB + 1)
        client = self.client()
        empty = client.upload_file(self.file(b"", "empty.bin"))
        part = client.upload_file(self.file(data, "part.bin"), stop_at=MIB)
        whole = client.upload_file(self.file(data, "whole.bin"), metadata={"a": "1"})
        for url, offset, length, metadata in (
            (empty, 0, 0, {"filename": "empty.bin"}),
            (part, MIB, MIB + 1, {"filename": "part.bin"}),
            (whole, MIB + 1, MIB + 1, {"a": "1", "filename": "whole.bin"}),
        ):
            with self.subTest(length=length, offset=offset):
                info = client.get_upload_info(url)
                self.assertEqual(
                    info,
                    {
                        "offset": offset,
                        "length": length,
                        "complete": offset == length,
                        "metadata": metadata,
                    },
                )
        with self.assert_refused(404):
            client.get_upload_info(f"{self.server.url}/nothing-here")

    def test_c38_f28_get_metadata(self):
        metadata = {"filename": "žluťoučký 漢字 🎉", "empty": "", "last": "x"}
        client = self.client()
        url = client.upload_file(self.file(b"x"), metadata=dict(metadata))
        # The client skips a key without a value; the server does not.
        seen = client.get_metadata(url)
        self.assertEqual(seen, {key: value for key, value in metadata.items() if value})
        self.assertIn("empty", self.request("HEAD", url)[1]["Upload-Metadata"])
        with self.assert_refused(404):
            client.get_metadata(f"{self.server.url}/nothing-here")

    def test_c38_metadata_encoding_is_kept_byte_for_byte(self):
        client = self.client(metadata_encoding="latin-1")
        url = client.upload_file(self.file(b"x"), metadata={"filename": "Ærø"})
        self.assertEqual(client.get_metadata(url), {"filename": "Ærø"})

    def test_c29_c39_store_url_resumes_and_find_previous_uploads_finds(self):
        data = content(3 * MIB)
        for storage in (
            InMemoryURLStorage(),
            FileURLStorage(str(self.folder / f"{type(self).__name__}.json")),
            SQLiteURLStorage(str(self.folder / f"{type(self).__name__}.db")),
        ):
            with self.subTest(storage=type(storage).__name__):
                requests = Requests()
                client = self.client(store_url=True, url_storage=storage, before_request=requests)
                file = self.file(data)
                self.assertEqual(client.find_previous_uploads(file), [])
                url = client.upload_file(file, stop_at=MIB)
                found = client.find_previous_uploads(file)
                self.assertEqual([each["upload_url"] for each in found], [url])
                requests.clear()
                self.assertEqual(client.upload_file(file), url)
                self.assertEqual(requests.methods, ["HEAD", "PATCH", "PATCH"])
                self.assert_stored(url, data)

                client.delete_upload(url)
                again = client.upload_file(file)
                self.assertNotEqual(again, url, "C-29: 404 means begin anew")
                self.assert_stored(again, data)

    @needs_own_server
    def test_c29_d15_a_stored_url_that_expired_is_begun_anew(self):
        server = self.own_server("--expire-after", "2s")
        data = content(2 * MIB)
        client = self.client(server.url, store_url=True, url_storage=InMemoryURLStorage())
        url = client.upload_file(self.file(data), stop_at=MIB)
        until("404", lambda: self.request("HEAD", url, server)[0] == 404)
        again = client.upload_file(self.file(data))
        self.assertNotEqual(again, url)
        self.assert_stored(again, data, server)

    def test_c40_override_patch_method_with_each_checksum(self):
        data = content(2 * MIB + 1)
        for checksum in CHECKSUMS:
            with self.subTest(checksum=checksum):
                requests = Requests()
                client = self.client(
                    checksum=checksum, override_patch_method=True, before_request=requests
                )
                url = client.upload_file(self.file(data))
                self.assertEqual(requests.methods, ["POST", "HEAD", "POST", "POST", "POST"])
                self.assert_stored(url, data)

    def test_c41_headers_hooks_and_request_ids(self):
        requests, answers, urls = Requests(), [], []
        client = self.client(
            headers={"Authorization": "Bearer abc", "X-Custom": 'a, b; c="d"'},
            add_request_id=True,
            before_request=requests,
            after_response=lambda method, url, status: answers.append((method, status)),
            on_upload_url_available=urls.append,
        )
        data = content(MIB + 1)
        url = client.upload_file(self.file(data))
        expected = [("POST", 201), ("HEAD", 200), ("PATCH", 204), ("PATCH", 204)]
        self.assertEqual(answers, expected)
        self.assertEqual(urls, [url])
        self.assertEqual(len({fields["X-Request-ID"] for _, _, fields in requests}), 4)
        self.assert_stored(url, data)

    def test_t083_t084_a_wrong_checksum_is_460_and_keeps_nothing(self):
        data = content(3 * MIB)
        for checksum in ("sha1", "sha256", "sha512", "md5"):
            with self.subTest(checksum=checksum):
                requests, urls = SpoiledRequests(checksum, at=MIB), []
                client = self.client(
                    checksum=checksum, before_request=requests, on_upload_url_available=urls.append
                )
                with self.assertRaises(TusUploadFailed) as caught:
                    client.upload_file(self.file(data))
                self.assertEqual(caught.exception.status_code, 460)
                self.assertEqual(requests.offsets, [0, MIB], "C-28: 460 is not retried")
                [url] = urls
                client = self.client(checksum=checksum)
                self.assertEqual(client.get_upload_info(url)["offset"], MIB)
                client.resume_upload(self.file(data), url)
                self.assert_stored(url, data)

    def test_t082_an_unknown_checksum_algorithm_is_400_and_keeps_nothing(self):
        data = content(1000)
        for checksum in ("sha384", "blake2b"):
            with self.subTest(checksum=checksum):
                urls = []
                client = self.client(checksum=checksum, on_upload_url_available=urls.append)
                with self.assertRaises(TusUploadFailed) as caught:
                    client.upload_file(self.file(data))
                self.assertEqual(caught.exception.status_code, 400)
                self.assertEqual(client.get_upload_info(urls[0])["offset"], 0)

    @needs_own_server
    def test_t055_above_the_maximum_size_is_413(self):
        server = self.own_server("--max-size", str(MIB))
        client = self.client(server.url)
        with self.assert_refused(413):
            client.upload_file(self.file(content(MIB + 1)))
        with self.assert_refused(413):
            client.upload_file(self.file(content(MIB + 1)), parallel_uploads=2)
        with self.assert_refused(413):
            url = client.create_deferred_upload()
            client.resume_upload(self.file(content(MIB + 1)), url)
        self.assert_stored(client.upload_file(self.file(content(MIB))), content(MIB), server)

    def test_get_file_size(self):
        client = self.client()
        self.assertEqual(client.get_file_size(self.file(b"abc")), 3)
        self.assertEqual(client.get_file_size(io.BytesIO(b"abcd")), 4)


class SyncClientTest(Contract, ClientTestCase):
    def client(self, url=None, **options):
        options.setdefault("retry_delay", RETRY_DELAY_SECONDS)
        return TusClient(url or self.server.url, **options)

    def upload_through_cuts(self, client, url, data):
        client.resume_upload(self.file(data), url)

    def test_every_public_method_is_known_here(self):
        self.assertEqual(public_methods(TusClient), METHODS | SYNC_ONLY_METHODS)

    def test_c41_update_headers_and_get_headers(self):
        requests = Requests()
        client = self.client(before_request=requests)
        client.update_headers({"X-Later": "yes"})
        self.assertEqual(client.get_headers(), {"X-Later": "yes"})
        self.assert_stored(client.upload_file(self.file(b"abc")), b"abc")
        self.assertEqual({fields["X-Later"] for _, _, fields in requests}, {"yes"})

    def test_c28_on_should_retry_may_veto(self):
        data = content(4 * MIB)
        asked = []

        def veto(error, attempt):
            asked.append(attempt)
            return False

        proxy = self.proxy()
        client = self.client(proxy.url, on_should_retry=veto, chunk_size=4 * MIB)
        url = client.upload_file(self.file(data), stop_at=1)
        proxy.cut_after(MIB, MIB, manner="fin")
        with self.assertRaisesRegex(TusUploadFailed, "vetoed"):
            client.resume_upload(self.file(data), url)
        self.assertEqual(asked, [1])
        client.resume_upload(self.file(data), url)
        self.assert_stored(url, data)

    def test_t044_f28_an_empty_value_at_the_end_loses_its_blank_on_the_way(self):
        client = self.client()
        url = client.upload_file(self.file(b"x"), metadata={"filename": "a", "trailing": ""})
        self.assertEqual(client.get_metadata(url), {"filename": "a"})
        self.assertIn("trailing", self.request("HEAD", url)[1]["Upload-Metadata"])

    def test_encode_metadata_and_get_file_stream(self):
        client = self.client()
        self.assertEqual(client.encode_metadata({"a": "b"}), ["a Yg=="])
        with self.assertRaises(ValueError):
            client.encode_metadata({"a b": "c"})
        with client.get_file_stream(self.file(b"abc")) as stream:
            self.assertEqual(stream.read(), b"abc")


class Blocking:
    """Drives an async client, or the uploader it made, from plain code."""

    def __init__(self, inner, loop: asyncio.AbstractEventLoop):
        self._inner, self._loop = inner, loop

    def __getattr__(self, name: str):
        if name == "close":
            name = "aclose"
        value = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(value):
            return value

        def call(*args, **options):
            result = self._loop.run_until_complete(value(*args, **options))
            return Blocking(result, self._loop) if isinstance(result, AsyncUploader) else result

        return call


class AsyncClientTest(Contract, ClientTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.loop = asyncio.new_event_loop()
        cls.addClassCleanup(cls.loop.close)

    def client(self, url=None, **options):
        options.setdefault("retry_delay", RETRY_DELAY_SECONDS)
        client = Blocking(AsyncTusClient(url or self.server.url, **options), self.loop)
        self.addCleanup(client.aclose)
        return client

    def upload_through_cuts(self, client, url, data):
        # This client retries answers but not broken connections, so its user has to go on.
        for _ in range(5):
            try:
                client.resume_upload(self.file(data), url)
                return
            except TusCommunicationError as error:
                self.assertIsNone(
                    error.status_code, "the connection broke, the server said nothing"
                )
        self.fail("five attempts for two cuts")

    def test_every_public_method_is_known_here(self):
        self.assertEqual(public_methods(AsyncTusClient), METHODS | ASYNC_ONLY_METHODS)

    def test_f19_many_uploads_at_once(self):
        files = [content(200 * KIB + i, i) for i in range(10)]

        async def upload_all():
            async with AsyncTusClient(self.server.url, chunk_size=50 * KIB) as client:
                streams = (io.BytesIO(data) for data in files)
                return await asyncio.gather(
                    *(client.upload_file(file_stream=stream) for stream in streams)
                )

        for url, data in zip(self.loop.run_until_complete(upload_all()), files, strict=True):
            self.assert_stored(url, data)


class CommandLineTest(ClientTestCase):
    """`python -m resumable_upload`, the same client as a command."""

    def run_command(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "resumable_upload", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, cwd=self.folder, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_upload_info_and_download(self):
        data = content(5 * MIB)
        for extra in (
            [],
            ["--parallel", "3", "--checksum", "sha256"],
            ["--checksum", "none", "--override-patch-method", "--request-id"],
            ["--resume", "--metadata", "kind=test"],
        ):
            with self.subTest(extra=extra):
                file = self.file(data)
                url = self.run_command("upload", file, "--url", self.server.url, *extra)
                self.assert_stored(url, data)
                self.assertIn("complete: True", self.run_command("info", url))
                self.run_command("download", url, "--output", "copy.bin")
                self.assert_same((self.folder / "copy.bin").read_bytes(), data, "the download")


if __name__ == "__main__":
    unittest.main()
