"""The folder of the cache."""

from pathlib import Path

from svllreid.runtime.caches import cache_folder


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("SVLLREID_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/me/.cache/svllreid")
    monkeypatch.setenv("XDG_CACHE_HOME", "/big")
    assert cache_folder() == Path("/big/svllreid")
    monkeypatch.setenv("SVLLREID_CACHE", "~/models")
    assert cache_folder() == Path("/home/me/models")
