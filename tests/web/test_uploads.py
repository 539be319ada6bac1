"""Files that are no pictures, or harmful ones: a clear answer, and the server lives."""

import io
import struct
import zlib

import pytest
from PIL import Image

from svllreid.web.service.records import Limits


def png_of_size(width, height):
    """A PNG whose header promises a size, and whose content is a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def animated(kind):
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 90, 180)]
    frames[0].save(file, format=kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0" + b"\0" * 100
FAULTY = {
    "empty": (b"", 422, "is empty"),
    "text": (b"hello", 415, "no picture"),
    "html": (b"<html><script>alert(1)</script>", 415, "no picture"),
    "a program that draws": (EPS, 415, "no picture"),
    "HEIC": (HEIC, 415, "HEIC"),
    "a bomb": (png_of_size(60_000, 60_000), 413, "pixels"),
    "more pixels than allowed": (png_of_size(8000, 6000), 413, "pixels"),
    "damaged": (png_of_size(300, 300), 422, "damaged"),
    "animated GIF": (animated("GIF"), 422, "several frames"),
    "animated PNG": (animated("PNG"), 422, "several frames"),
    "animated WebP": (animated("WEBP"), 422, "several frames"),
    "several pages": (animated("TIFF"), 422, "several frames"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, 415, "no picture"),
    "only a signature": (b"\xff\xd8\xff\xe0", 415, "no picture"),
}


@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.parametrize("address", ["search", "gallery/images"])
def test_a_faulty_file_is_refused_in_clear_words(reader, name, address):
    content, status, words = FAULTY[name]
    answer = reader.post(f"/api/v1/{address}", files={"image": ("x.jpg", content, "image/jpeg")})
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    assert reader.get("/healthz").status_code == 200


def test_a_truncated_picture_is_refused(reader, draw):
    whole = draw((9, 9, 9), (200, 200), "JPEG")
    answer = reader.post("/api/v1/search", files={"image": whole[: len(whole) // 2]})
    assert (answer.status_code, "incomplete" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats_are_told_by_content_whatever_the_name(reader, draw, kind):
    file = ("../../x\\..\\..\0.exe", draw((200, 30, 30), kind=kind), "text/html")
    answer = reader.post("/api/v1/search", files={"image": file}, data={"k": 1})
    assert answer.json()["hits"][0]["crop"]["pid"] == "rita"


def test_pictures_are_turned_upright_before_a_box_is_cut(reader):
    image = Image.new("RGB", (60, 100), (0, 0, 0))
    image.paste((30, 30, 200), (0, 0, 60, 10))  # upright: x1 = 90
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, format="PNG", exif=exif)
    answer = reader.post("/api/v1/search", files={"image": file.getvalue()}, data={"box": "90,0,100,60", "k": 1})
    assert answer.json()["hits"][0]["crop"]["pid"] == "bob"


def test_too_many_and_too_large_files_are_refused(open_service, open_client, draw):
    limits = Limits(file_bytes=2000, request_bytes=10_000, query_pictures=2, add_pictures=3)
    client = open_client(open_service(limits=limits))
    small, noise = draw((1, 2, 3)), bytes(3000)

    def status(contents, **arguments):
        return client.post("/api/v1/search", files=[("image", one) for one in contents], **arguments).status_code

    assert status([small] * 2) == 200
    assert status([small] * 3) == 413
    assert status([noise]) == 413
    assert status([noise] * 4) == 413
    assert client.post("/api/v1/gallery/images", files=[("image", small)] * 4).status_code == 413
    assert client.post("/api/v1/search").status_code == 422
    assert client.get("/healthz").status_code == 200


def test_a_request_of_unknown_length_is_cut_off_at_the_limit(open_service, open_client):
    client = open_client(open_service(limits=Limits(request_bytes=10_000)))
    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while sent < 1_000_000:
            sent += 1000
            yield b"y" * 1000

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/api/v1/search", content=endless(), headers=headers).status_code == 413
