"""Zarr behind addresses: an object store that the test starts, a server of files, the memory of this process."""

import json
import os
import signal
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.cli.conftest import SIZE, finished, make_volume, noise, ok, program, run
from tests.object_store import Bucket, object_store

zarr = pytest.importorskip("zarr")
fsspec = pytest.importorskip("fsspec")
IDENTITY = ("--kernel", "identity", "-q")
BUCKET = "s3://scans"


@pytest.fixture(scope="module")
def server():
    """Return the address and the buckets of an object store, which ends with the module."""
    pytest.importorskip("s3fs")
    with object_store() as found:
        yield found


@pytest.fixture
def bucket(server, folder, monkeypatch):
    """Return an empty bucket as s3fs sees it, with what leads to it in the environment."""
    import s3fs

    address, buckets = server
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    made = buckets["scans"] = Bucket()
    s3fs.S3FileSystem.clear_instance_cache()
    make_volume("a.npy", noise(*SIZE))
    yield made
    s3fs.S3FileSystem.clear_instance_cache()


def keys(bucket):
    return sorted(bucket.objects.copy())


class TestObjects:
    def test_what_is_written_is_read_and_each_object_is_written_once(self, bucket):
        ok("apply", "a.npy", "-o", f"{BUCKET}/in/b.zarr", "--chunks", 4, "--tile", "7,5,3", *IDENTITY)
        assert len(keys(bucket)) == 1 + 2 * 2 * 2
        assert set(bucket.puts.values()) == {1}
        ok("apply", f"{BUCKET}/in/b.zarr", "-o", "c.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load("c.npy"), noise(*SIZE))
        assert json.loads(ok("info", f"{BUCKET}/in/b.zarr", "--json").out)["shape"] == list(SIZE)

    @pytest.mark.parametrize("number", (2, 3))
    def test_an_image_with_levels_in_a_group_that_lists_it(self, bucket, number):
        options = ("--pyramid", "--spacing", "1,1,1um", "--zarr-format", number, *IDENTITY)
        ok("apply", "a.npy", "-o", f"{BUCKET}/g.zarr/first.ome.zarr", *options)
        store = zarr.storage.FsspecStore.from_url(f"{BUCKET}/g.zarr")
        zarr.consolidate_metadata(store)
        before = keys(bucket)
        ok("apply", "a.npy", "-o", f"{BUCKET}/g.zarr/second.ome.zarr", *options)
        assert set(before) < set(keys(bucket))
        for name in ("first", "second"):
            ok("apply", f"{BUCKET}/g.zarr/{name}.ome.zarr", "--level", 1, "-o", "c.ome.zarr", "--overwrite", *IDENTITY)
            assert zarr.open_array("c.ome.zarr/0", mode="r").shape == (3, 3, 4)
        store.fs.invalidate_cache()
        assert set(zarr.open_consolidated(store).group_keys()) == {"first.ome.zarr", "second.ome.zarr"}

    def test_nothing_is_replaced_unless_it_may_be(self, bucket):
        out = f"{BUCKET}/b.zarr"
        ok("apply", "a.npy", "-o", out, "--chunks", 2, *IDENTITY)
        result = run("apply", "a.npy", "-o", out, *IDENTITY)
        assert (result.code, result.err.count("\n"), "--overwrite" in result.err) == (4, 1, True), result.err
        assert run("apply", "a.npy", "-o", out, "--chunks", 2, "--skip-existing", *IDENTITY).code == 0
        ok("apply", "a.npy", "-o", out, "--stride", 2, "--overwrite", *IDENTITY)
        assert keys(bucket) == ["b.zarr/c/0/0/0", "b.zarr/zarr.json"]
        result = run("apply", "a.npy", "-o", out, "--skip-existing", *IDENTITY)
        assert (result.code, "is no finished output" in result.err) == (4, True), result.err

    @pytest.mark.parametrize(
        "out", ("s3://scans/b.zarr", "s3a://scans/b.zarr", f"{BUCKET}/b.zarr/in", f"{BUCKET}//b.zarr")
    )
    def test_an_input_is_never_replaced(self, bucket, out):
        ok("apply", "a.npy", "-o", f"{BUCKET}/b.zarr", *IDENTITY)
        before = keys(bucket)
        result = run("apply", f"{BUCKET}/b.zarr", "-o", out, "--overwrite", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (4, 1), result.err
        assert keys(bucket) == before

    def test_nothing_is_an_array_there_before_it_is_whole(self, bucket, folder):
        make_volume("a.npy", noise(64, 64, 64))
        options = ("--kernel", "gaussian", "--sigma", "3vox", "--chunks", 8, "--tile", 8, "-j", 1)
        with program("apply", "a.npy", "-o", f"{BUCKET}/b.zarr", *options) as process:
            while process.poll() is None and len(keys(bucket)) < 3:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert 3 <= len(keys(bucket)) < 512
        assert not [key for key in keys(bucket) if not key.startswith("b.zarr/c/")]
        result = run("info", f"{BUCKET}/b.zarr")
        assert (result.code, result.err.count("\n")) == (3, 1), result.err
        ok("apply", "a.npy", "-o", f"{BUCKET}/b.zarr", "--chunks", 32, *IDENTITY)
        assert len(keys(bucket)) == 9

    @pytest.mark.parametrize(
        ("args", "code"),
        (
            (("info", f"{BUCKET}/none.zarr"), 3),
            (("info", "s3://nowhere/b.zarr"), 3),
            (("apply", "a.npy", "-o", "s3://nowhere/b.zarr", *IDENTITY), 4),
            (("apply", "a.npy", "-o", "s3://nowhere/b.zarr", "--overwrite", *IDENTITY), 4),
            (("apply", "a.npy", "-o", f"{BUCKET}/b.zarr/../c", *IDENTITY), 4),
            (("apply", "a.npy", "-o", f"{BUCKET}/b.zarr/zarr.json", *IDENTITY), 4),
            (("apply", "a.npy", "-o", f"{BUCKET}/b.nii", *IDENTITY), 2),
            (("apply", "a.npy", "-o", f"{BUCKET}/b.ozx", *IDENTITY), 2),
            (("apply", "a.npy", "--out-dir", BUCKET, *IDENTITY), 2),
            (("apply", "a.npy", "-o", f"{BUCKET}/b.zarr", "--resume", *IDENTITY), 2),
            (("apply", "a.npy", "-o", f"{BUCKET}/b.zarr", "--sidecar", *IDENTITY), 2),
            (("apply", "a.npy", "-o", f"simplecache::{BUCKET}/b.zarr", *IDENTITY), 4),
            (("info", "nosuch://b/a.zarr"), 3),
            (("info", "http://127.0.0.1:9/a.zarr"), 3),
            (("apply", "a.npy", "-o", "http://127.0.0.1:9/a.zarr", *IDENTITY), 4),
        ),
    )
    def test_what_is_not_there_or_cannot_be_is_one_line(self, bucket, folder, args, code):
        result = run(*args)
        assert (result.code, result.err.count("\n")) == (code, 1), result.err
        assert "unexpected" not in result.err
        assert keys(bucket) == []
        assert [path.name for path in folder.iterdir()] == ["a.npy"]

    @pytest.mark.parametrize("args", (("info",), ("apply", "a.npy", *IDENTITY, "-o")))
    def test_without_credentials_or_a_server_it_is_one_line_of_a_program(self, bucket, args):
        environment = {name: value for name, value in os.environ.items() if "ACCESS_KEY" not in name}
        for changed in (environment, os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}):
            with program(*args, f"{BUCKET}/b.zarr", env=changed) as process:
                result = finished(process)
            assert (result.code, result.err.count("\n")) == (3 if args[0] == "info" else 4, 1), result.err


def test_a_folder_behind_a_web_server_is_read(folder):
    pytest.importorskip("aiohttp")
    make_volume("a.npy", noise(*SIZE))
    ok("apply", "a.npy", "-o", "b.ome.zarr", "--pyramid", "--chunks", 4, *IDENTITY)
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/b.ome.zarr"
        ok("apply", address, "-o", "c.npy", *IDENTITY)
        ok("apply", f"{address}/1", "-o", "d.npy", *IDENTITY)
        assert run("info", address.replace("b.ome", "none")).code == 3
        server.shutdown()
    np.testing.assert_array_equal(np.load("c.npy"), noise(*SIZE))
    assert np.load("d.npy").shape == (3, 3, 4)


def test_the_memory_of_this_process_is_a_place_too(folder):
    make_volume("a.npy", noise(*SIZE))
    ok("apply", "a.npy", "-o", "memory://there/b.zarr", *IDENTITY)
    ok("apply", "memory://there/b.zarr", "-o", "memory://there/c.zarr/d", "--tile", "2,3,3", "--chunks", 3, *IDENTITY)
    ok("apply", "memory://there/c.zarr", "-o", "c.npy", *IDENTITY)
    np.testing.assert_array_equal(np.load("c.npy"), noise(*SIZE))
    assert run("apply", "a.npy", "-o", "memory://there/b.zarr/in", "--overwrite", *IDENTITY).code == 4
    fsspec.filesystem("memory").rm("/there", recursive=True)
