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

_WORKER = "6f5902ac-2374-4bdd-8b3b-6a0d3b2b1d3e"
_TASK_ID = "00000007-7c1e-4f0a-9d0e-000000000000"
_WAITING_ID = "00000009-7c1e-4f0a-9d0e-000000000000"
_LEVEL = "system.slice/carfs.service"
_FILE = "/sys/fs/cgroup/system.slice/carfs.service/memory.max"
_REASON = f"needs 512 MiB, headroom 310 MiB under {_LEVEL} memory.max"
_MEMORY = {
    "Limit": 8589934592, "Used": 5368709120, "Headroom": 3221225472, "LimitBy": f"{_LEVEL} memory.max",
    "HeadroomBy": f"{_LEVEL} memory.max",
}  # fmt: skip
_LIMITS = {
    "Mode": "v2", "Memory": _MEMORY,
    "Swap": {"Limit": None, "Used": 0, "Headroom": None, "LimitBy": "", "HeadroomBy": ""},
    "MilliCpus": {"Limit": 4000, "Used": 0, "Headroom": None, "LimitBy": "host sched_getaffinity", "HeadroomBy": ""},
    "Pids": {
        "Limit": 4096, "Used": 100, "Headroom": 3996, "LimitBy": "system.slice pids.max",
        "HeadroomBy": "system.slice pids.max",
    },
    "Pressure": {"Some10s": 1.5, "Full10s": 0.25, "Level": _LEVEL, "File": _FILE},
}  # fmt: skip
_FACT = {
    "Resource": "memory", "Source": "cgroup-v2", "Level": _LEVEL, "Name": "memory.max", "File": _FILE,
    "Limit": 8589934592, "Used": 5368709120, "IsSoft": False, "Note": "",
}  # fmt: skip
_TASK = {
    "ID": _TASK_ID, "Kind": "index", "Subject": "photos", "SizeBytes": 1073741824, "Priority": 0, "Attempt": 1,
    "State": "active", "Place": 0, "QueuedAt": _AT, "StartedAt": _AT, "Worker": _WORKER, "Hostname": "agent-host",
    "Done": 536870912, "Total": 1073741824, "NeedsBytes": 536870912, "UsedBytes": 209715200,
    "LimitBytes": 536870912, "WaitsFor": "", "IsHopeless": False,
}  # fmt: skip
_WAITING = _TASK | {
    "ID": _WAITING_ID, "State": "waiting", "Place": 1, "StartedAt": "", "Worker": "", "Hostname": "", "Done": 0,
    "Total": 0, "UsedBytes": 0, "LimitBytes": 0, "WaitsFor": _REASON,
}  # fmt: skip
_TASKS = {
    "At": _AT, "Running": 1, "Waiting": 1, "Groups": "each process is in a group of its own",
    "Workers": [
        {
            "ID": _WORKER, "Name": "agent-host", "IsEnabled": True, "Kinds": ["commp", "index", "verify"],
            "MemoryBytes": 8589934592, "MemoryUsedBytes": 5368709120,
            "MemoryTasksBytes": 209715200, "MemoryReservedBytes": 33554432, "MemoryLeftBytes": 3221225472,
            "MemoryBy": f"{_LEVEL} memory.max", "SwapBytes": 1073741824, "SwapUsedBytes": 0, "CPUs": 4, "CPUsUsed": 1,
            "PidsLeft": 3996, "DiskLeftBytes": 107374182400, "Pressed": "", "Note": "", "Tasks": 1,
        }
    ],
    "Tasks": [_TASK, _WAITING],
}  # fmt: skip
_SECTOR = {"Miner": 0, "Number": 7}
_CALL = {"Sector": _SECTOR, "ID": _TASK_ID}
_STATS = {
    "Info": {
        "Hostname": "agent-host", "IgnoreResources": False,
        "Resources": {
            "MemPhysical": 8589934592, "MemUsed": 5368709120, "MemSwap": 1073741824, "MemSwapUsed": 0, "CPUs": 4,
            "GPUs": [], "Resources": None,
        },
    },
    "Tasks": ["commp", "index", "verify"], "Enabled": True, "MemUsedMin": 138412032, "MemUsedMax": 570425344,
    "GpuUsed": 0.0, "CpuUse": 1, "TaskCounts": {"3:index": 1},
}  # fmt: skip

_NO_BOUND = {"limit": None, "limit_by": None, "headroom": None, "headroom_by": None}
_STATUS = {
    "Snapshot": {
        "mode": "v2", "facts": [], "problems": [], "memory": {**_NO_BOUND, "limit": 8589934592, "headroom": 8000000000},
        "swap": _NO_BOUND, "cpus": {**_NO_BOUND, "limit": 4000}, "pids": _NO_BOUND, "pressure": None,
    },
    "DiskLeft": 107374182400, "Used": {"9f86d081884c7d65": 52428800}, "Problem": "",
}  # fmt: skip
_FAR = "2f1c7a52-0e0f-4b5e-9d0a-6a0c3b8f2d11"

_EMPTY = "bafkqaaa"
_INLINE = "bafkqabtimvwgy3yk"
_SESSION = "kX0Yh6cV0GvJm1xW5kqC3g"
_CAR_IMPORT = _IMPORT | {
    "Name": "inline", "Kind": "car", "Root": _EMPTY, "Roots": [_EMPTY], "Profile": "", "Folder": None,
    "IndexPath": "/srv/carfs/imports/1790000000000000000.idx",
}  # fmt: skip
_RETRIEVAL = {
    "ID": 1, "Name": _EMPTY, "Root": _EMPTY, "State": "RetrievalStateDone", "Path": "", "Range": "", "Selector": "",
    "Lazy": False, "Sources": [], "CARPath": "/srv/carfs/retrievals/1.car", "Bytes": 0, "Blocks": 0, "Wasted": 0,
    "Total": None, "Rate": 0.0, "ETASeconds": None, "Source": "", "Error": "", "ErrorClass": "", "Created": _AT,
    "Ended": _AT,
    "Roots": [_EMPTY], "Version": 2, "DataOffset": 51, "DataSize": 25,
    "Fingerprint": {"size": 100, "mtime_ns": 1, "inode": 2, "device": 3, "etag": "", "modified": ""},
    "Generation": 1, "Refs": 0,
}  # fmt: skip
_LOTUS_RETRIEVAL = {
    "PayloadCID": {"/": _EMPTY}, "ID": 1, "PieceCID": None, "PricePerByte": "0", "UnsealPrice": "0", "Status": 15,
    "Message": "", "Provider": "", "BytesReceived": 0, "BytesPaidFor": 0, "TotalPaid": "0", "TransferChannelID": None,
    "DataTransfer": None, "Event": None,
}  # fmt: skip

_PIECE = "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"
_DEAL = {
    "ID": 1, "State": "StorageDealActive", "Root": _EMPTY, "PieceCID": _PIECE, "PieceSize": 256, "PayloadSize": 211,
    "Source": "http://192.0.2.7:8480", "Label": "photos", "Client": "laptop", "EndsAt": "", "UUID": "", "Sector": 1,
    "Offset": 0, "Error": "", "ErrorClass": "", "Created": _AT, "Updated": _AT,
}  # fmt: skip
_NEW_DEAL = _DEAL | {"State": "StorageDealValidating", "PayloadSize": None, "Sector": None, "Offset": None}

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
    "Filecoin.ClientExport": Example(
        {
            "ExportRef": {"Root": {"/": _CID}, "DAGs": None, "FromLocalCAR": "", "DealID": 0},
            "FileRef": {"Path": "/srv/album-back", "IsCAR": False},
        },
        None,
    ),
    "Carfs.Export": Example(
        {"Ref": {"Root": _CID}, "Path": "/srv/album.car", "IsCAR": True, "Replace": True},
        {
            "Path": "/srv/album.car", "Kind": "car", "Bytes": 5103, "Blocks": 1, "Files": None, "Roots": [_CID],
            "Sources": ["import 1790000000000000000"],
        },
    ),
    "Carfs.ListData": Example(
        {"Root": _CID},
        {
            "Name": "", "CID": _CID, "Kind": "file", "Size": 5000, "Tsize": None, "Target": "", "Error": "",
        },
    ),
    "Carfs.FindData": Example(
        {"Root": _CID},
        {
            "Imports": [{"ID": 1790000000000000000, "Name": "album", "IsRoot": True}], "Shards": [],
            "Incomplete": "",
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
            "Imports": {}, "Fetching": [],
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
            "Limits": _LIMITS, "Tasks": _TASKS,
        },
    ),
    "Carfs.Resources": Example(
        {},
        {
            **_LIMITS, "Facts": [_FACT],
            "Problems": [
                {"Source": "cgroup-v2", "File": "/sys/fs/cgroup/memory.high", "Message": "Permission denied"}
            ],
            "Explanation": [f"memory 8.0 GiB: {_LEVEL} memory.max, in {_FILE}"],
            "Groups": "each process is in a group of its own",
        },
    ),
    "Carfs.Estimates": Example(
        {}, [{"Kind": "index", "SizeClass": "32G", "PeakBytes": 314572800, "Tasks": 7}]
    ),
    "Carfs.SetWorkerEnabled": Example({"Worker": _WORKER, "Enabled": False}, None),
    "Carfs.Metrics": Example({}, "# HELP carfs_up 1: the agent answers…"),
    "Carfs.Tasks": Example({"Limit": 100}, _TASKS),
    "Carfs.WatchTasks": Example({"Interval": 1.0}, {"Limits": _LIMITS, "Tasks": _TASKS}),
    "Carfs.AbortTask": Example({"ID": _WAITING_ID}, None),
    "Filecoin.WorkerStats": Example({}, {_WORKER: _STATS}),
    "Filecoin.WorkerJobs": Example(
        {},
        {
            _WORKER: [
                {
                    "ID": _CALL, "Sector": _SECTOR, "Task": "index", "RunWait": 0, "Start": _AT,
                    "Hostname": "agent-host", "Subject": "photos",
                }
            ],
            "00000000-0000-0000-0000-000000000000": [
                {
                    "ID": {"Sector": _SECTOR, "ID": _WAITING_ID}, "Sector": _SECTOR, "Task": "index", "RunWait": 2,
                    "Start": _AT, "Hostname": "", "Subject": "photos",
                }
            ],
        },
    ),
    "Filecoin.SealingSchedDiag": Example(
        {"DoSched": False},
        {
            "SchedInfo": {
                "Requests": [
                    {
                        "Sector": _SECTOR, "TaskType": "index", "Priority": 0, "SchedId": _WAITING_ID,
                        "Subject": "photos", "WaitsFor": _REASON,
                    }
                ],
                "OpenWindows": [],
            },
            "ReturnedWork": [], "Waiting": [], "CallToWork": {}, "EarlyRet": [],
        },
    ),
    "Filecoin.SealingAbort": Example({"Call": _CALL}, None),
    "Filecoin.SealingRemoveRequest": Example({"SchedId": _WAITING_ID}, None),
    "Carfs.WorkerJoin": Example(
        {
            "Protocol": 1, "Session": _FAR, "Name": "far", "Kinds": ["index", "verify"], "Status": _STATUS,
            "Version": "0.1", "Enabled": True,
        },
        {
            "Message": "welcome", "Ticket": "9yYdJ0zLwOaTj1xW5kqC3g", "HeartbeatS": 5.0, "Directory": "/srv/carfs",
            "Results": "/srv/carfs/dagstore", "Proof": "pZ0Yh6cV0GvJm1xW5kqC3g", "Version": "0.1",
        },
    ),
    "Carfs.WorkerReport": Example(
        {
            "Session": _FAR, "Ticket": "9yYdJ0zLwOaTj1xW5kqC3g", "Sequence": 1, "Status": _STATUS,
            "Messages": [{"Message": "progress", "Assignment": "9f86d081884c7d65", "Done": 1048576, "Total": 8388608}],
        },
        None,
    ),
    "Filecoin.ClientFindData": Example({"Root": {"/": _EMPTY}}, []),
    "Filecoin.ClientMinerQueryOffer": Example(
        {"Miner": "http://127.0.0.1:1", "Root": {"/": _EMPTY}},
        {
            "Err": "http://127.0.0.1:1: connection refused", "Root": {"/": _EMPTY}, "Piece": None, "Size": 0,
            "MinPrice": "0", "UnsealPrice": "0", "PricePerByte": "0", "PaymentInterval": 0,
            "PaymentIntervalIncrease": 0, "Miner": "http://127.0.0.1:1",
            "MinerPeer": {"Address": "http://127.0.0.1:1", "ID": "", "PieceCID": None},
        },
    ),
    "Filecoin.ClientRetrieve": Example({"Order": {"Root": _EMPTY}}, {"DealID": 1}),
    "Filecoin.ClientRetrieveWait": Example({"DealID": 1}, None),
    "Filecoin.ClientListRetrievals": Example({}, [_LOTUS_RETRIEVAL]),
    "Filecoin.ClientGetRetrievalUpdates": Example({}, _LOTUS_RETRIEVAL),
    "Filecoin.ClientCancelRetrievalDeal": Example({"DealID": 2}, None),
    "Carfs.StartRetrieval": Example({"Root": _EMPTY, "From": ["https://gateway.example"], "Wait": True}, _RETRIEVAL),
    "Carfs.ProposeDeal": Example(
        {
            "Proposal": {"Root": _EMPTY, "PieceCID": _PIECE, "PieceSize": 256, "Source": "http://192.0.2.7:8480"},
            "Client": "laptop",
        },
        _NEW_DEAL,
    ),
    "Carfs.ListDeals": Example({}, [_DEAL]),
    "Carfs.GetDeal": Example({"Deal": 1}, _DEAL),
    "Carfs.WaitDeal": Example({"Deal": 1}, _DEAL),
    "Carfs.ImportDealData": Example({"Deal": 2, "Path": "/srv/photos.car"}, _NEW_DEAL),
    "Carfs.RetryDeal": Example({"Deal": 3}, _NEW_DEAL),
    "Carfs.EndDeal": Example({"Deal": 1}, _DEAL),
    "Carfs.MigrateDeals": Example(
        {"Path": "/srv/deals.json"},
        {
            "Complete": True, "Total": 1, "Registered": 1, "Already": 0, "Skipped": 0, "Pruned": 0, "Failed": [],
            "Lines": ["registering shards for all active deals in sealing subsystem {\"count\": 1}"],
        },
    ),
    "Carfs.DealUnsealed": Example(
        {"Deal": 1}, {"Unsealed": True, "File": "/srv/sectors/unsealed/s-t01000-1", "Offset": 0}
    ),
    "Carfs.UnsealDeal": Example(
        {"Deal": 1}, {"Unsealed": True, "File": "/srv/sectors/unsealed/s-t01000-1", "Offset": 0}
    ),
    "Carfs.Network": Example(
        {},
        {
            "Known": True, "Up": True,
            "Interfaces": [{"Name": "eth0", "Up": True, "Addresses": ["192.0.2.7"]}],
            "Announced": ["http://192.0.2.7:8480"],
        },
    ),
    "Carfs.IpfsNode": Example(
        {},
        {
            "Address": "http://127.0.0.1:5001", "Version": "0.43.0", "Error": "",
            "UseForStorage": False, "UseForRetrieval": False, "OnlineMode": False,
        },
    ),
    "Carfs.ImportRetrieval": Example({"Retrieval": _EMPTY, "Name": "inline"}, _CAR_IMPORT),
    "Carfs.ListRetrievals": Example({}, [_RETRIEVAL]),
    "Carfs.GetRetrieval": Example({"Retrieval": _EMPTY}, _RETRIEVAL),
    "Carfs.WaitRetrieval": Example({"Retrieval": _EMPTY}, _RETRIEVAL),
    "Carfs.CancelRetrieval": Example({"Retrieval": _INLINE}, None),
    "Carfs.RemoveRetrieval": Example({"Retrieval": _EMPTY}, None),
    "Carfs.WantBlocks": Example({"Retrieval": _INLINE, "CIDs": []}, None),
    "Carfs.AcquireRetrieval": Example({"Session": _SESSION, "Retrieval": 1}, _RETRIEVAL),
    "Carfs.ReleaseRetrieval": Example({"Session": _SESSION, "Retrieval": 1}, False),
    "Carfs.Shutdown": Example({}, None),
}  # fmt: skip
