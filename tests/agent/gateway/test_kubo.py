"""`/api/v0`: what an IPFS node's RPC API answers to who reads, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carlib.cid import Cid
from tests.agent.gateway.test_gateway import serve_tree
from tests.agent.gateway.worlds import Served, gateway_at

LOST = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
Json = Any  # any value that JSON can carry


async def call(served: Served, target: str) -> Json:
    answer = await served.ask(f"/api/v0/{target}", "POST")
    return answer.status, answer.headers.get("content-type"), answer.body


async def test_blocks_and_whole_dags(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _, root = await serve_tree(served, tmp_path)
        status, kind, data = await call(served, f"block/get?arg={root}")
        assert (status, kind, Cid.of(data, root.codec)) == (200, "application/vnd.ipld.raw", root)
        assert json.loads((await call(served, f"block/stat?arg={root}"))[2]) == {
            "Key": str(root),
            "Size": len(data),
        }
        answer = await served.ask(f"/api/v0/dag/export?arg=/ipfs/{root}&progress=false", "POST")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/vnd.ipld.car")
        blocks = answer.blocks()
        assert blocks[0] == (root, data)
        refs = await call(served, f"refs?arg={root}&recursive=true&unique=true")
        lines = [json.loads(line) for line in refs[2].splitlines()]
        assert [line["Ref"] for line in lines] == [str(cid) for cid, _ in blocks[1:]]
        assert all(line["Err"] == "" for line in lines)
        version = json.loads((await call(served, "version"))[2])
        assert version["Version"] and version["System"].endswith("/linux")


async def test_directories_and_files(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _, root = await serve_tree(served, tmp_path)
        (found,) = json.loads((await call(served, f"ls?arg={root}"))[2])["Objects"]
        assert found["Hash"] == str(root)
        by_name = {link["Name"]: link for link in found["Links"]}
        hello = by_name["hello.txt"]
        assert hello["Type"] == 2 and hello["Target"] == ""
        whole = (await call(served, f"cat?arg={root}/hello.txt"))[2]
        assert len(whole) == hello["Size"] > 4
        assert (await call(served, f"cat?arg={root}/hello.txt&offset=2&length=2"))[2] == whole[2:4]
        twice = await call(
            served, f"cat?arg={root}/hello.txt&arg=/ipfs/{root}/hello.txt&offset={len(whole) - 1}"
        )
        assert twice[2] == whole[-1:] + whole
        assert (await call(served, f"cat?arg={root}/hello.txt&offset=1000000"))[2] == b""
        streamed = await call(served, f"ls?arg={root}&stream=true")
        lines = [json.loads(line)["Objects"][0]["Links"][0] for line in streamed[2].splitlines()]
        assert lines == found["Links"]
        (one,) = json.loads((await call(served, f"ls?arg={root}/hello.txt"))[2])["Objects"]
        assert [link["Hash"] for link in one["Links"]] == [hello["Hash"]]


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        (f"block/get?arg={LOST}", 500, "not"),
        (f"dag/export?arg={LOST}", 500, "not"),
        (f"refs?arg={LOST}", 500, "not"),
        (f"ls?arg={LOST}", 500, "not"),
        (f"cat?arg={LOST}", 500, "not"),
        (f"block/stat?arg={LOST}/a", 500, "not here"),
        ("cat?arg=ROOT", 500, "this dag node is a directory"),
        ("cat?arg=ROOT/none", 500, "no entry 'none'"),
        ("cat?arg=ROOT/hello.txt&offset=x", 400, "offset=x"),
        ("cat?arg=ROOT/hello.txt&offset=-1", 400, "offset=-1"),
        ("block/get", 400, "is required"),
        ("block/get?arg=x", 400, "invalid path 'x'"),
    ],
)
async def test_what_cannot_be_is_told_as_kubo_tells_it(
    target: str, status: int, words: str, tmp_path: Path
) -> None:
    async with gateway_at(tmp_path) as served:
        _, root = await serve_tree(served, tmp_path)
        found = await call(served, target.replace("ROOT", str(root)))
        said = json.loads(found[2])
        assert (found[0], found[1], said["Type"]) == (status, "application/json", "error")
        assert words in said["Message"]


async def test_calls_are_post_and_few(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        assert (await served.ask("/api/v0/version")).status == 405
        found = await served.ask("/api/v0/add", "POST")
        assert (found.status, found.headers["content-type"]) == (404, "text/plain; charset=utf-8")
        refused = await served.ask(
            "/api/v0/version", "POST", origin="https://evil.example", host="evil.example"
        )
        assert refused.status == 403


async def test_refs_have_levels_edges_and_tell_what_is_missing(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _, root = await serve_tree(served, tmp_path)
        first = (await call(served, f"refs?arg={root}"))[2].splitlines()
        deep = (await call(served, f"refs?arg={root}&recursive=true"))[2].splitlines()
        one = (await call(served, f"refs?arg={root}&recursive=true&max-depth=1"))[2].splitlines()
        assert first == one and len(deep) > len(first) > 0
        edges = (await call(served, f"refs?arg={root}&edges=true"))[2].splitlines()
        assert json.loads(edges[0])["Ref"] == f"{root} -> {json.loads(first[0])['Ref']}"


async def test_a_denied_cid_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "deny").write_text(f"/ipfs/{LOST}\n")
    async with gateway_at(tmp_path, deny_list=str(tmp_path / "deny")) as served:
        status, _, body = await call(served, f"block/get?arg={LOST}")
        assert status == 500 and "is not served here" in json.loads(body)["Message"]
