"""tuspy 1.1.0. Rule numbers are those of the wire contract (wire/tus.md)."""

import asyncio
import io
import unittest

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.storage.filestorage import FileStorage

from support import KIB, MIB, ClientTestCase, CuttingProxy, content, needs_own_server


class TuspyTest(ClientTestCase):
    def client(self, url: str | None = None) -> TusClient:
        return TusClient(url or self.server.url)

    def upload(self, data: bytes, **options):
        uploader = self.client().uploader(file_stream=io.BytesIO(data), **options)
        uploader.upload()
        return uploader

    def test_c31_d26_without_metadata_an_empty_header_is_sent(self):
        data = content(1000)
        uploader = self.upload(data)
        self.assertEqual(uploader.get_url_creation_headers()["upload-metadata"], "")
        self.assertIsNone(self.request("HEAD", uploader.url)[1]["Upload-Metadata"])
        self.assert_stored(uploader.url, data)

    def test_c31_t054_metadata_comes_back_as_sent(self):
        metadata = {"filename": "žluťoučký 漢字 🎉.txt", "empty": "", "kind": "test"}
        uploader = self.upload(b"abc", metadata=metadata)
        sent = uploader.get_url_creation_headers()["upload-metadata"]
        self.assertEqual(self.request("HEAD", uploader.url)[1]["Upload-Metadata"], sent)

    def test_c32_upload_in_one_and_in_many_chunks_with_and_without_checksum(self):
        for size in (0, 1, 64 * KIB, MIB + 1, 5 * MIB):
            for chunk_size in (MIB, 100 * MIB):
                for checksum in (False, True):
                    with self.subTest(size=size, chunk_size=chunk_size, checksum=checksum):
                        data = content(size)
                        uploader = self.upload(
                            data, chunk_size=chunk_size, upload_checksum=checksum
                        )
                        self.assert_stored(uploader.url, data)

    def test_c32_upload_file_path_by_the_default_chunk_size(self):
        data = content(3 * MIB)
        uploader = self.client().uploader(self.file(data))
        uploader.upload()
        self.assert_stored(uploader.url, data)

    def test_c32_upload_chunk_goes_one_at_a_time(self):
        data = content(2 * MIB + 1)
        uploader = self.client().uploader(file_stream=io.BytesIO(data), chunk_size=MIB)
        for offset in (MIB, 2 * MIB, 2 * MIB + 1):
            uploader.upload_chunk()
            self.assertEqual(uploader.offset, offset)
        self.assert_stored(uploader.url, data)

    def test_c33_stop_at_and_resume_by_url(self):
        data = content(3 * MIB)
        first = self.client().uploader(file_stream=io.BytesIO(data), chunk_size=MIB)
        first.upload(stop_at=MIB + 5)
        self.assertEqual(self.request("HEAD", first.url)[1]["Upload-Offset"], str(MIB + 5))
        second = self.client().uploader(file_stream=io.BytesIO(data), url=first.url)
        self.assertEqual(second.offset, MIB + 5)
        second.upload()
        self.assert_stored(first.url, data)

    def test_c33_resume_by_stored_url(self):
        data = content(3 * MIB)
        storage = FileStorage(str(self.folder / "tuspy.json"))
        self.addCleanup(storage.close)
        path = self.file(data)
        options = {"store_url": True, "url_storage": storage, "chunk_size": MIB}
        first = self.client().uploader(path, **options)
        first.upload(stop_at=MIB)
        second = self.client().uploader(path, **options)
        self.assertEqual((second.url, second.offset), (first.url, MIB))
        second.upload()
        self.assert_stored(first.url, data)

    def test_c33_an_unknown_url_has_no_offset(self):
        with self.assertRaises(TusCommunicationError) as caught:
            self.client().uploader(
                file_stream=io.BytesIO(b"x"), url=f"{self.server.url}/nothing-here"
            )
        self.assertEqual(caught.exception.status_code, 404)

    def test_c34_d47_a_retry_after_a_cut_goes_on(self):
        data = content(6 * MIB)
        for manner in CuttingProxy.MANNERS:
            for checksum in (False, True):
                with self.subTest(manner=manner, checksum=checksum):
                    proxy = self.proxy()
                    proxy.cut_after(3 * MIB, manner=manner)
                    # More than one retry: with delay 0 the server may not have seen the cut yet.
                    uploader = self.client(proxy.url).uploader(
                        file_stream=io.BytesIO(data),
                        upload_checksum=checksum,
                        retries=5,
                        retry_delay=0,
                    )
                    uploader.upload()
                    self.assertEqual(proxy.cuts, 1)
                    self.assert_stored(uploader.url, data)

    def test_c32_a_stale_offset_is_reported_as_409(self):
        data = content(8 * MIB)
        first = self.client().uploader(file_stream=io.BytesIO(data), chunk_size=MIB)
        first.upload_chunk()
        stale = self.client().uploader(file_stream=io.BytesIO(data), url=first.url)
        first.upload_chunk()
        with self.assertRaises(TusUploadFailed) as caught:
            stale.upload()
        self.assertEqual(caught.exception.status_code, 409)
        self.assertIn(b"ERR_MISMATCHED_OFFSET", caught.exception.response_content)
        first.upload()
        self.assert_stored(first.url, data)

    @needs_own_server
    def test_t055_above_the_maximum_size_is_413(self):
        server = self.own_server("--max-size", str(MIB))
        with self.assertRaises(TusCommunicationError) as caught:
            self.client(server.url).uploader(file_stream=io.BytesIO(content(MIB + 1))).upload()
        self.assertEqual(caught.exception.status_code, 413)
        self.assertIn(b"ERR_MAX_SIZE_EXCEEDED", caught.exception.response_content)

    def test_c41_client_headers_are_ignored_politely(self):
        client = self.client()
        client.set_headers({"Authorization": "Bearer abc"})
        uploader = client.uploader(file_stream=io.BytesIO(b"abc"))
        uploader.upload()
        self.assert_stored(uploader.url, b"abc")

    def test_c32_the_async_uploader(self):
        for size in (0, 2 * MIB + 1):
            with self.subTest(size=size):
                data = content(size)
                uploader = self.client().async_uploader(
                    file_stream=io.BytesIO(data), chunk_size=MIB, upload_checksum=True
                )
                asyncio.run(uploader.upload())
                self.assert_stored(uploader.url, data)


if __name__ == "__main__":
    unittest.main()
