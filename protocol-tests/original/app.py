#!/usr/bin/env python3
"""drf-chunked-upload as it was released, behind the flags and the start lines of windlass.

So the conformance cases start it, kill it and ask it as they do with windlass. What is here is what
the package leaves to a site: the model and its view, URLs, a database, a server. Anybody may upload,
as with a windlass without owners; `file` is served, as `file` of windlass is.
"""

import argparse
import sys
from datetime import timedelta
from pathlib import Path

import django
import waitress
from django.conf import settings


def seconds(text: str) -> timedelta:
    return timedelta(seconds=int(text.removesuffix("s")))


parser = argparse.ArgumentParser()
parser.add_argument("--listen", required=True)
parser.add_argument("--data-dir", type=Path, required=True)
parser.add_argument("--max-size", type=int)
parser.add_argument("--expire-after", type=seconds, default=timedelta(days=1))
arguments = parser.parse_args()
arguments.data_dir.mkdir(parents=True, exist_ok=True)

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": arguments.data_dir / "db.sqlite3",
            # Requests at the same time are about the package, not about locks of SQLite.
            "OPTIONS": {
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
            },
        }
    },
    DRF_CHUNKED_UPLOAD_EXPIRATION_DELTA=arguments.expire_after,
    DRF_CHUNKED_UPLOAD_MAX_BYTES=arguments.max_size,
    DRF_CHUNKED_UPLOAD_PATH="chunked_uploads",
    # With it, and without a login, every upload is 404.
    DRF_CHUNKED_UPLOAD_USER_RESTRICTED=False,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rest_framework",
        "drf_chunked_upload",
    ],
    MEDIA_ROOT=arguments.data_dir / "media",
    MEDIA_URL="/media/",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a site that lives for a minute",
    TIME_ZONE="UTC",
    USE_TZ=True,
)
django.setup()

# Models may be imported from here on only.
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.urls import path, re_path  # noqa: E402
from django.views.static import serve  # noqa: E402
from drf_chunked_upload.models import AbstractChunkedUpload  # noqa: E402
from drf_chunked_upload.serializers import ChunkedUploadSerializer  # noqa: E402
from drf_chunked_upload.views import ChunkedUploadView  # noqa: E402


class ChunkedUpload(AbstractChunkedUpload):
    """The package's own model, but its user may be missing."""

    user = models.ForeignKey(
        "auth.User", null=True, editable=False, db_constraint=False, on_delete=models.CASCADE
    )

    class Meta:
        app_label = "original"


class Serializer(ChunkedUploadSerializer):
    class Meta(ChunkedUploadSerializer.Meta):
        model = ChunkedUpload


class View(ChunkedUploadView):
    model = ChunkedUpload
    serializer_class = Serializer


urlpatterns = [
    path("chunked/", View.as_view(), name="chunkedupload-list"),
    path("chunked/<uuid:pk>/", View.as_view(), name="chunkedupload-detail"),
    re_path("^media/(?P<path>.*)$", serve, {"document_root": settings.MEDIA_ROOT}),
]


def main() -> None:
    if ChunkedUpload._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(ChunkedUpload)
    host, port = arguments.listen.rsplit(":", 1)
    server = waitress.create_server(get_wsgi_application(), host=host, port=port, threads=16)
    print(f"chunked: http://{host}:{server.effective_port}/chunked")
    print("stop with SIGTERM", flush=True)
    server.run()


if __name__ == "__main__":
    sys.exit(main())
