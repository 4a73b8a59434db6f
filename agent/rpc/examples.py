"""An example of each method, for the OpenRPC document: what is asked, and what a good answer looks like.

A test asks all of them of an agent that has the shards `photos` (Available), `later` (New) and `lost` (Errored) and the
import `album`, and compares the answers with these: what is not the same each time (a time, a number, a path) has the
same type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = Any  # any value that JSON can carry


@dataclass(frozen=True, slots=True)
class Example:
    """Parameters by name, and the result; of a stream a value of it, the last one."""

    params: dict[str, Json]
    result: Json


_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJBbGxvdyI6WyJyZWFkIl19.…"
_CID = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
_URL = "file:///srv/photos.car"
_AT = "2026-01-31T12:00:00.000000Z"
_BECAME_AVAILABLE = {
    "At": _AT, "Before": "ShardStateInitializing", "After": "ShardStateAvailable", "Event": "Indexed",
    "Reason": "index 1", "By": "agent",
}  # fmt: skip
_RECORD = {
    "Key": "photos", "State": "ShardStateAvailable", "URL": _URL, "Path": "/srv/photos.car",
    "Access": {"Kind": "file", "Path": "/srv/photos.car"}, "Size": 234,
    "Fingerprint": {"size": 234, "mtime_ns": 1, "inode": 2, "device": 3, "etag": "", "modified": ""},
    "IndexPath": "/srv/carfs/dagstore/index/photos.1.idx", "IndexCodec": 1025, "Version": 1,
    "DataOffset": 0, "DataSize": 234, "Blocks": 3, "Roots": [_CID], "Error": "", "ErrorClass": "",
    "Refs": 0, "Lazy": False, "Registered": _AT, "Generation": 1, "Replicas": [], "ExistingTransient": None,
    "Attempts": 0, "Quarantined": "", "Scrub": None, "History": [_BECAME_AVAILABLE],
}  # fmt: skip
_LOTUS_SHARD = {"Key": "photos", "State": "ShardStateAvailable", "Error": ""}
_STEP = {"Key": "later", "Event": "end", "Success": True, "Error": "", "Total": 1, "Current": 1}
_TRACE = {
    "Number": 9, "At": _AT, "Key": "lost", "Op": "Failed", "Before": "ShardStateInitializing",
    "After": "ShardStateErrored", "Reason": "/srv/lost.car: No such file or directory", "ErrorClass": "gone",
    "By": "agent",
}  # fmt: skip

_VERDICT = {
    "Run": "5f0c", "Depth": "index", "Sample": 0, "By": "rpc: process 12 uid 1000", "Started": _AT, "Ended": _AT,
    "Outcome": "good", "Detail": "", "Bytes": 234, "Blocks": 3, "Bad": 0, "Repaired": 0, "Unverifiable": 0,
    "Links": None,
}  # fmt: skip
_STATISTICS = {
    "Generation": 1, "Shards": 1, "Pending": 0, "Segments": 1, "Entries": 3, "DeadEntries": 0, "SizeBytes": 4096,
    "Problem": "",
}  # fmt: skip

_BAD_BLOCK = {
    "Offset": 59, "Size": 100, "CID": _CID, "Multihash": "1220b94d27b9…", "Problem": "its hash does not match",
    "Found": _AT, "Run": "5f0c", "Repaired": "", "RepairedFrom": "",
}  # fmt: skip
_FINDING = {
    "Check": "data-gone", "Severity": "error", "What": "the data of shard 'moved' is not at file:///srv/moved.car",
    "Advice": "put it back, or mount its disk; or `carfs dagstore destroy-shard`", "Key": "moved",
    "Path": "file:///srv/moved.car", "Corrupt": False, "Fixable": False, "Fixed": "",
}  # fmt: skip

_IMPORT = {
    "ID": 1790000000000000000, "Name": "album", "Kind": "ref", "State": "ImportStateReady", "Root": _CID,
    "Roots": [_CID], "Source": "import", "FilePath": "/srv/album",
    "CARPath": "/srv/carfs/imports/1790000000000000000.car", "CAROwner": "importmgr", "Profile": "carfs",
    "Created": _AT, "Size": 5000, "Blocks": 1, "Files": 1, "Done": 0, "Total": 0, "Error": "", "ErrorClass": "",
    "StaleFiles": [], "StaleCount": 0, "Skipped": [], "SkippedCount": 0, "IndexPath": None, "Version": 2,
    "DataOffset": 51, "DataSize": 59, "Folder": "/",
    "Fingerprint": {"size": 500, "mtime_ns": 1, "inode": 2, "device": 3, "etag": "", "modified": ""},
    "Generation": 1, "Refs": 0, "Job": "",
}  # fmt: skip
_IMPORTED = {
    "ID": 1790000000000000001, "Name": "trip", "Root": _CID, "State": "ImportStateReady", "Existing": False,
    "Size": 6000, "Blocks": 1, "Skipped": [], "SkippedCount": 0,
}  # fmt: skip
_REMADE = {"Record": _IMPORT, "Relinked": 0, "Gone": 0, "Refreshed": 0, "Cloned": 0, "Reason": ""}
_LOTUS_IMPORT = {
    "ID": 7, "Reimport": True,
    "Line": 'import lacks carv2 path; import will not work; please reimport {"id": 7, "source": "import", …}',
    "Level": "warn", "Source": "import", "Root": _CID, "FilePath": "/srv/album", "CARPath": "", "CAROwner": "",
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "Filecoin.Version": Example({}, {"Version": "carfs-0.1", "APIVersion": 66816, "BlockDelay": 0}),
    "Filecoin.AuthNew": Example({"Perms": ["read"]}, "ZXlKaGJHY2lPaUpJVXpJMU5pSXNJblI1Y0NJNklrcFhWQ0o5"),
    "Filecoin.AuthVerify": Example({"Token": _TOKEN}, ["read"]),
    "Filecoin.DagstoreListShards": Example({}, [_LOTUS_SHARD]),
    "Filecoin.DagstoreRegisterShard": Example(
        {"Key": "piece", "Options": {"URL": "file:///srv/photos.car", "Lazy": True}}, None
    ),
    "Filecoin.DagstoreInitializeShard": Example({"Key": "later"}, None),
    "Filecoin.DagstoreInitializeAll": Example({"MaxConcurrency": 5, "IncludeSealed": False}, _STEP),
    "Filecoin.DagstoreRecoverShard": Example({"Key": "lost"}, None),
    "Filecoin.DagstoreDestroyShard": Example({"Key": "later"}, None),
    "Filecoin.DagstoreLookupPieces": Example({"Cid": {"/": _CID}}, [_LOTUS_SHARD]),
    "Filecoin.DagstoreGC": Example(
        {}, [{"Key": "remote", "Success": True, "Error": "", "FreedBytes": 1048576}]
    ),
    "Filecoin.ClientCalcCommP": Example(
        {"Inpath": "/srv/photos.car"},
        {"Root": {"/": "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"}, "Size": 256},
    ),
    "Filecoin.ClientImport": Example(
        {"Path": "/srv/trip", "IsCAR": False}, {"Root": {"/": _CID}, "ImportID": 1790000000000000001}
    ),
    "Filecoin.ClientListImports": Example(
        {},
        [
            {
                "Key": 1790000000000000000, "Err": "", "Root": {"/": _CID}, "Source": "import",
                "FilePath": "/srv/album", "CARPath": "/srv/carfs/imports/1790000000000000000.car",
            }
        ],
    ),
    "Filecoin.ClientRemoveImport": Example({"ImportID": 1790000000000000000}, None),
    "Filecoin.ClientHasLocal": Example({"Root": {"/": _CID}}, True),
    "Filecoin.ClientGenCar": Example(
        {"Ref": {"Path": "/srv/trip", "IsCAR": False}, "Outpath": "/srv/trip.car"}, None
    ),
    "Filecoin.ClientDealSize": Example({"Root": {"/": _CID}}, {"PayloadSize": 5103, "PieceSize": 8192}),
    "Filecoin.ClientDealPieceCID": Example(
        {"Root": {"/": _CID}},
        {
            "PayloadSize": 5103, "PieceSize": 8192,
            "PieceCID": {"/": "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"},
        },
    ),
    "Carfs.Import": Example(
        {"Path": "/srv/trip", "Name": "trip", "Kind": "ref", "Profile": "carfs", "Wait": True}, _IMPORTED
    ),
    "Carfs.Imports": Example({}, [_IMPORT]),
    "Carfs.GetImport": Example({"Import": "album"}, _IMPORT),
    "Carfs.WaitImport": Example({"Import": "album"}, {**_IMPORTED, "Name": "album"}),
    "Carfs.CancelImport": Example({"Import": "slow"}, None),
    "Carfs.RemoveImport": Example({"Import": "album"}, None),
    "Carfs.RenameImport": Example({"Import": "album", "Name": "holiday"}, {**_IMPORT, "Name": "holiday"}),
    "Carfs.VerifyImport": Example(
        {"Import": "album", "Deep": True},
        {
            "Event": "verdict",
            "Verdict": {
                "Good": True, "Broken": "", "BrokenClass": "", "StaleFiles": [], "StaleCount": 0, "Touched": 0,
                "ChangedBlocks": 0, "Blocks": [], "ReadBytes": 5000, "Record": _IMPORT,
            },
        },
    ),
    "Carfs.RepairImport": Example({"Import": "album"}, _REMADE),
    "Carfs.RelinkImport": Example({"Import": "album", "Path": "/srv/album"}, _REMADE),
    "Carfs.FreezeImport": Example(
        {"Import": "album"},
        {
            **_REMADE, "Record": {**_IMPORT, "Kind": "dense", "Files": 0, "Folder": None},
            "Reason": "the file system cannot clone: Operation not supported",
        },
    ),
    "Carfs.AcquireImport": Example(
        {"Session": "9yYdJ0zLwOaTj1xW5kqC3g", "Import": "album"}, {**_IMPORT, "Refs": 1}
    ),
    "Carfs.ReleaseImport": Example({"Session": "9yYdJ0zLwOaTj1xW5kqC3g", "Import": "album"}, False),
    "Carfs.CheckLotusImports": Example(
        {"Path": "/srv/lotus"},
        {
            "Imports": [_LOTUS_IMPORT], "Broken": 1, "Total": 1,
            "Lines": ["sanity checking imports", 'sanity check completed {"broken": 1, "total": 1}'],
        },
    ),
    "Carfs.RegisterShard": Example({"Key": "holiday", "URL": _URL, "Wait": True}, {**_RECORD, "Key": "holiday"}),
    "Carfs.RegisterShards": Example(
        {"Shards": [{"Key": "piece", "URL": _URL, "Lazy": True}, {"Key": "photos", "URL": _URL}]},
        {
            "Registered": 1,
            "Refused": [
                {"Key": "photos", "Class": "exists", "Error": "a shard with the key 'photos' exists already"}
            ],
        },
    ),
    "Carfs.RecoverShards": Example({"ErrorClasses": ["gone"]}, {**_STEP, "Key": "lost"}),
    "Carfs.VerifyShards": Example(
        {"Keys": ["photos"], "Depth": "index"}, {"Key": "photos", "Event": "verdict", "Verdict": _VERDICT}
    ),
    "Carfs.ScrubState": Example(
        {"Key": "photos"},
        {"Run": None, "Verdict": _VERDICT, "Verified": {"index": _AT}, "Quarantined": [_BAD_BLOCK], "Home": ""},
    ),
    "Carfs.ListQuarantined": Example(
        {}, [{"Key": "photos", "Quarantined": f"1 bad block {_CID} at offset 59: its hash does not match"}]
    ),
    "Carfs.Doctor": Example({"Fix": False}, [_FINDING]),
    "Carfs.DestroyShard": Example({"Key": "later"}, None),
    "Carfs.ListShards": Example({"States": ["Available"], "Glob": "p*", "Limit": 100}, [_RECORD]),
    "Carfs.WalkShards": Example({"After": "lost"}, _RECORD),
    "Carfs.CountShards": Example(
        {"Prefix": "l"},
        {
            "Total": 2,
            "Refs": 0,
            "States": {"ShardStateErrored": 1, "ShardStateNew": 1},
            "ErrorClasses": {"gone": 1},
        },
    ),
    "Carfs.ShardInfo": Example({"Key": "photos"}, _RECORD),
    "Carfs.ShardHistory": Example({"Key": "photos", "Limit": 1}, [{"Number": 2, **_BECAME_AVAILABLE}]),
    "Carfs.LookupCid": Example({"Cid": _CID}, [_LOTUS_SHARD]),
    "Carfs.WatchShards": Example({"FailuresOnly": True, "Recent": True}, _TRACE),
    "Carfs.CheckInvertedIndex": Example({}, []),
    "Carfs.RebuildInvertedIndex": Example({}, _STATISTICS),
    "Carfs.AcquireShard": Example(
        {"Session": "9yYdJ0zLwOaTj1xW5kqC3g", "Key": "photos"}, {**_RECORD, "State": "ShardStateServing", "Refs": 1}
    ),
    "Carfs.FetchRange": Example(
        {"Session": "9yYdJ0zLwOaTj1xW5kqC3g", "Key": "remote", "Offset": 0, "Length": 100}, None
    ),
    "Carfs.WantRanges": Example(
        {"Session": "9yYdJ0zLwOaTj1xW5kqC3g", "Key": "remote", "Ranges": [{"Offset": 0, "Length": 100}]}, None
    ),
    "Carfs.CompleteShard": Example({"Key": "remote", "Wait": True}, None),
    "Carfs.ReleaseShard": Example({"Session": "9yYdJ0zLwOaTj1xW5kqC3g", "Key": "photos"}, False),
    "Carfs.Addresses": Example({}, {"Listen": ["127.0.0.1:3453"]}),
    "Carfs.AuthRevokeAll": Example({}, None),
    "Carfs.Status": Example(
        {},
        {
            "Version": "0.1", "Pid": 4711, "Path": "/srv/carfs", "Addresses": ["127.0.0.1:3453"], "Errors": {"gone": 1},
            "UptimeSeconds": 3600.5, "MemoryBytes": 60000000,
            "Shards": {"ShardStateNew": 1, "ShardStateAvailable": 1, "ShardStateErrored": 1}, "Indexing": [],
            "Fetching": [],
            "Transients": {
                "Transients": 0, "Open": 0, "UsedBytes": 0, "ReservedBytes": 0, "LimitBytes": 0, "Fetching": 0,
                "FetchedBytes": 0, "EvictedBytes": 0,
            },
            "Scrub": {"Scheduled": 1, "Overdue": 0, "Damaged": 0, "NextAt": _AT, "Running": []},
            "UnhealthyOrigins": [
                {"Origin": "https://example.org:443", "State": "open", "Failures": 5, "RetryInSeconds": 9.5}
            ],
            "InvertedIndex": _STATISTICS,
            "Workers": {"Busy": 0, "Idle": 0, "Waiting": 0, "Limit": 4}, "Clients": [],
        },
    ),
    "Carfs.Shutdown": Example({}, None),
}  # fmt: skip
