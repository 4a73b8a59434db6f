"""The methods: who may call them, how parameters come in, and how errors go out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.rpc import jsonrpc, registry
from agent.rpc.jsonrpc import Call, ErrorObject
from agent.rpc.methods import METHODS, Services, answer
from agent.rpc.methods.status import Workers
from agent.rpc.peers import Caller, Permission
from carlib.cid import Cid
from tests.agent.cars import CID, write_car
from tests.agent.serving import ask, services_at
from tests.agent.stores import register
from tests.conftest import ExpectWarning


def test_the_registry_is_what_the_documentation_says() -> None:
    levels = {name: method.permission.name.lower() for name, method in METHODS.items()}
    assert levels == {
        "rpc.discover": "read",
        "Filecoin.Discover": "read",
        "Filecoin.Version": "read",
        "Filecoin.AuthNew": "admin",
        "Filecoin.AuthVerify": "read",
        "Filecoin.DagstoreListShards": "read",
        "Filecoin.DagstoreRegisterShard": "admin",
        "Filecoin.DagstoreInitializeShard": "write",
        "Filecoin.DagstoreInitializeAll": "write",
        "Filecoin.DagstoreRecoverShard": "write",
        "Filecoin.DagstoreDestroyShard": "admin",
        "Filecoin.DagstoreLookupPieces": "admin",
        "Filecoin.DagstoreGC": "admin",
        "Filecoin.ClientCalcCommP": "admin",
        "Filecoin.ClientExport": "admin",
        "Carfs.Export": "admin",
        "Carfs.ListData": "read",
        "Carfs.FindData": "read",
        "Filecoin.ClientImport": "admin",
        "Filecoin.ClientListImports": "write",
        "Filecoin.ClientRemoveImport": "admin",
        "Filecoin.ClientHasLocal": "write",
        "Filecoin.ClientGenCar": "admin",
        "Filecoin.ClientDealSize": "read",
        "Filecoin.ClientDealPieceCID": "read",
        "Carfs.StartRetrieval": "write",
        "Carfs.Network": "read",
        "Carfs.IpfsNode": "read",
        "Carfs.ImportRetrieval": "write",
        "Carfs.ProposeDeal": "sign",
        "Carfs.ListDeals": "read",
        "Carfs.GetDeal": "read",
        "Carfs.WaitDeal": "read",
        "Carfs.ImportDealData": "admin",
        "Carfs.RetryDeal": "admin",
        "Carfs.EndDeal": "admin",
        "Carfs.DealUnsealed": "read",
        "Carfs.MigrateDeals": "admin",
        "Carfs.UnsealDeal": "admin",
        "Carfs.ListRetrievals": "read",
        "Carfs.GetRetrieval": "read",
        "Carfs.WaitRetrieval": "read",
        "Carfs.CancelRetrieval": "write",
        "Carfs.RemoveRetrieval": "write",
        "Carfs.WantBlocks": "read",
        "Carfs.AcquireRetrieval": "read",
        "Carfs.ReleaseRetrieval": "read",
        "Filecoin.ClientFindData": "read",
        "Filecoin.ClientMinerQueryOffer": "admin",
        "Filecoin.ClientRetrieve": "admin",
        "Filecoin.ClientRetrieveWait": "admin",
        "Filecoin.ClientListRetrievals": "write",
        "Filecoin.ClientGetRetrievalUpdates": "write",
        "Filecoin.ClientCancelRetrievalDeal": "write",
        "Carfs.Import": "admin",
        "Carfs.Imports": "read",
        "Carfs.GetImport": "read",
        "Carfs.WaitImport": "read",
        "Carfs.CancelImport": "admin",
        "Carfs.RemoveImport": "admin",
        "Carfs.RenameImport": "admin",
        "Carfs.VerifyImport": "write",
        "Carfs.RepairImport": "admin",
        "Carfs.RelinkImport": "admin",
        "Carfs.FreezeImport": "admin",
        "Carfs.AcquireImport": "read",
        "Carfs.ReleaseImport": "read",
        "Carfs.CheckLotusImports": "admin",
        "Carfs.RegisterShard": "admin",
        "Carfs.RegisterShards": "admin",
        "Carfs.RecoverShards": "write",
        "Carfs.VerifyShards": "write",
        "Carfs.ScrubState": "read",
        "Carfs.ListQuarantined": "read",
        "Carfs.Doctor": "read",
        "Carfs.DestroyShard": "admin",
        "Carfs.ListShards": "read",
        "Carfs.WalkShards": "read",
        "Carfs.CountShards": "read",
        "Carfs.ShardInfo": "read",
        "Carfs.ShardHistory": "read",
        "Carfs.LookupCid": "read",
        "Carfs.WatchShards": "read",
        "Carfs.CheckInvertedIndex": "admin",
        "Carfs.RebuildInvertedIndex": "admin",
        "Carfs.AcquireShard": "read",
        "Carfs.ReleaseShard": "read",
        "Carfs.FetchRange": "read",
        "Carfs.WantRanges": "read",
        "Carfs.CompleteShard": "write",
        "Carfs.Addresses": "read",
        "Carfs.AuthRevokeAll": "admin",
        "Carfs.Status": "read",
        "Carfs.Resources": "read",
        "Carfs.Estimates": "read",
        "Carfs.SetWorkerEnabled": "admin",
        "Carfs.Metrics": "read",
        "Carfs.Tasks": "read",
        "Carfs.WatchTasks": "read",
        "Carfs.AbortTask": "admin",
        "Carfs.WorkerJoin": "admin",
        "Carfs.WorkerReport": "admin",
        "Filecoin.WorkerStats": "admin",
        "Filecoin.WorkerJobs": "admin",
        "Filecoin.SealingSchedDiag": "admin",
        "Filecoin.SealingAbort": "admin",
        "Filecoin.SealingRemoveRequest": "admin",
        "Carfs.Shutdown": "admin",
    }


async def test_a_level_is_refused_what_the_next_one_may(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        for name, method in METHODS.items():
            if method.permission > Permission.READ:
                below = Caller(Permission(method.permission - 1), "a test")
                refused = await answer(services, below, Call(name, None, 1))
                assert isinstance(refused, ErrorObject)
                assert refused.data == {"class": "denied"}
                assert f"need '{method.permission.name.lower()}'" in refused.message
        assert not services.stop.is_set()


@pytest.mark.parametrize("form", ["by name", "by position", "as one object"])
async def test_parameters_come_in_three_forms(tmp_path: Path, form: str) -> None:
    path = str(write_car(tmp_path / "x.car"))
    named = {"Key": "x", "URL": path, "Wait": True}
    forms = {"by name": named, "by position": ["x", path, False, True], "as one object": [named]}
    async with services_at(tmp_path) as services:
        record = await ask(services, "Carfs.RegisterShard", forms[form])
        assert (record.key, record.state) == ("x", "ShardStateAvailable")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"Key": "x"}, "missing required field `URL`"),
        ({"Key": 5, "URL": "x"}, r"Expected `str`, got `int` - at `\$.Key`"),
        ({"Key": "x", "URL": "y", "Wat": 1}, "unknown field `Wat`"),
        (["x", "y", False, False, [], "", "car", 5], "takes at most 7 parameters"),
    ],
)
async def test_wrong_parameters_are_named(tmp_path: Path, params: Any, message: str) -> None:
    async with services_at(tmp_path) as services:
        refused = await ask(services, "Carfs.RegisterShard", params)
        assert (refused.code, refused.data) == (jsonrpc.INVALID_PARAMS, {"class": "invalid"})
        assert re.search(message, refused.message)


async def test_lotus_methods_have_lotus_shapes(tmp_path: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("ERRORED")
    async with services_at(tmp_path) as services:
        write_car(tmp_path / "x.car")
        for key, name in (("b", "x.car"), ("a", "none"), ("c", "x.car")):
            options = {"URL": str(tmp_path / name), "Lazy": key == "c"}
            assert await ask(services, "Filecoin.DagstoreRegisterShard", [key, options]) is None
        assert await ask(services, "Filecoin.DagstoreInitializeShard", ["c"]) is None
        await services.leases.acquire(services.leases.open("me"), "b")
        a, b, c = await ask(services, "Filecoin.DagstoreListShards", [])
        assert b == {"Key": "b", "State": "ShardStateServing", "Error": ""}
        assert (a["State"], c["State"]) == ("ShardStateErrored", "ShardStateAvailable")
        assert a["Error"].endswith("No such file or directory")


async def test_many_shards_are_taken_in_by_one_call_which_says_which_were_not(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        url = str(write_car(tmp_path / "x.car"))
        shards = [{"Key": str(number), "URL": url, "Lazy": True} for number in range(300)]
        answered = await ask(services, "Carfs.RegisterShards", {"Shards": [*shards, shards[0]]})
        refused = [{"Key": "0", "Class": "exists", "Error": "a shard with the key '0' exists already"}]
        assert msgspec.json.decode(msgspec.json.encode(answered)) == {"Registered": 300, "Refused": refused}
        assert len(await ask(services, "Carfs.ListShards")) == 300
        assert len(await ask(services, "Filecoin.DagstoreListShards")) == 300


async def test_an_error_carries_its_class_and_key(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        refused = await ask(services, "Carfs.ShardInfo", ["none"])
        assert refused == ErrorObject(
            -32001, "shard not found: 'none'", {"class": "not-found", "key": "none"}
        )
        unknown = await ask(services, "Filecoin.ChainHead")
        assert unknown == ErrorObject(
            jsonrpc.METHOD_NOT_FOUND, "method 'Filecoin.ChainHead' not found", {"class": "not-found"}
        )


async def test_a_bug_in_a_method_is_an_answer_and_a_logged_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_warning: ExpectWarning
) -> None:
    expect_warning("Carfs.Broken failed")

    async def broken(services: Services, params: registry.NoParams) -> None:
        raise ZeroDivisionError("by zero")

    entry = registry.Method(Permission.READ, registry.NoParams, broken)
    monkeypatch.setitem(METHODS, "Carfs.Broken", entry)
    async with services_at(tmp_path) as services:
        refused = await ask(services, "Carfs.Broken")
        assert (refused.code, refused.data) == (jsonrpc.INTERNAL_ERROR, {"class": "bug"})


async def test_a_key_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        refused = await ask(services, "Carfs.RegisterShard", {"Key": "\udcff", "URL": "/x"})
        assert refused.data["class"] == "invalid"


async def test_status_counts_shards_by_state(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await register(services.dagstore, "x", write_car(tmp_path / "x.car"))
        await register(services.dagstore, "y", tmp_path / "x.car", lazy=True)
        status = await ask(services, "Carfs.Status")
        assert status.shards == {"ShardStateNew": 1, "ShardStateAvailable": 1}
        assert status.workers == Workers(busy=0, idle=0, waiting=0, limit=1)
        assert 10_000_000 < status.memory_bytes < 1_000_000_000


async def test_shutdown_stops_the_agent(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        assert await ask(services, "Carfs.Shutdown") is None
        assert services.stop.is_set()


async def test_a_cid_is_looked_up_in_any_spelling_and_what_is_none_is_refused(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await ask(services, "Carfs.RegisterShard", ["x", str(write_car(tmp_path / "x.car")), False, True])
        for spelling in (str(CID), CID.encode("base58btc"), str(Cid.v1(0x70, CID.multihash))):
            (found,) = await ask(services, "Carfs.LookupCid", [spelling])
            assert (found.key, found.state, found.error) == ("x", "ShardStateAvailable", "")
        assert await ask(services, "Carfs.LookupCid", {"Cid": str(Cid.of(b"elsewhere"))}) == []
        refused = await ask(services, "Carfs.LookupCid", ["no CID"])
        assert refused.data == {"class": "invalid"}


async def test_the_inverted_index_is_checked_and_made_anew_on_demand(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await ask(services, "Carfs.RegisterShard", ["x", str(write_car(tmp_path / "x.car")), False, True])
        made = await ask(services, "Carfs.RebuildInvertedIndex")
        assert (made.shards, made.pending, made.entries) == (1, 0, 1)
        assert await ask(services, "Carfs.CheckInvertedIndex") == []
