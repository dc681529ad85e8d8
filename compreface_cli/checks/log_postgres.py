"""Messages of the database (`postgres`), versions 11 to 17, and of its image's entry point."""

from __future__ import annotations

from compreface_cli.checks import database, existing_data
from compreface_cli.checks.log_row import DISK_FULL, OUT_OF_MEMORY, WRONG_ARCHITECTURE, Row
from compreface_cli.topics import Topic

_DATABASE = ("postgres",)

SHARED_MEMORY = Topic(
    "database-shared-memory",
    means="The container of the database has too little shared memory: Docker gives 64 MB.",
    why="Queries that work in parallel fail with `could not resize shared memory segment`.",
    see="`docker exec CONTAINER df -h /dev/shm`.",
    ways=("Set `shm_size: 256m` for compreface-postgres-db in compose.override.yaml.",),
)

CONNECTIONS = Topic(
    "database-connections",
    means="All connections of the database are taken.",
    why="Services and tools that need a further one are refused.",
    see="`docker exec CONTAINER psql -U postgres -c 'select application_name, count(*) from "
    "pg_stat_activity group by 1'`.",
    ways=(
        "End the programs that hold many; several replicas of the api hold ten each.",
        "Raise `max_connections` of the database.",
    ),
)

RECOVERED = Topic(
    "database-recovered",
    means="The database was not shut down in order, and repaired itself from its log at the start.",
    why="Nothing that was committed is lost. The container was killed: by the kernel, a "
    "reboot, or a stop that took longer than its grace period.",
    see="`cf logs INSTANCE --service postgres` has `redo done`, then `ready to accept "
    "connections`.",
    ways=("Nothing needs to be done. If it repeats, look for what kills it: `dmesg`.",),
)

DAMAGED = Topic(
    "database-damaged",
    means="Files of the database are missing or damaged, so that it cannot start.",
    why="A copy of the volume that was made while it ran, a disk that failed, or two servers "
    "on one volume.",
    see="`cf logs INSTANCE --service postgres`.",
    ways=(
        "Stop everything that mounts the volume, and copy the volume as it is, before "
        "anything else.",
        "Restore a backup: `cf data restore FILE`.",
    ),
)

UNFINISHED = Topic(
    "database-folder",
    means="The folder of the database holds files and no cluster: its initialisation was cut "
    "off, or the volume had other contents.",
    why="The image does not initialise a folder that is not empty.",
    see="`docker run --rm -v VOLUME:/d alpine ls -la /d`.",
    ways=(
        "`cf up` creates a volume anew if it holds no data.",
        "Choose another instance name: `cf up --instance NAME`.",
    ),
)

NO_PASSWORD = Topic(
    "database-no-password",
    means="The image of the database was given no password for its first start.",
    why="It does not initialise an open database.",
    see="`docker inspect CONTAINER` has an empty POSTGRES_PASSWORD.",
    ways=(
        "`cf up` writes one into `.env` beside compose.yaml; restore that file, or `cf up` again.",
    ),
)

PERMISSIONS = Topic(
    "volume-permissions",
    means="A service may not read, write or own the files of its volume.",
    why="It ends at its start. Causes: rootless Docker or user namespaces with a bind mount, "
    "SELinux, a read-only file system, files that were copied as another user.",
    see="`docker run --rm -v VOLUME:/d alpine ls -lan /d`; `getenforce` for SELinux.",
    ways=(
        "Use a volume of Docker rather than a folder of the host.",
        "With SELinux, add `:z` to a bind mount in compose.override.yaml.",
        "Give the files back to the user of the image: `chown -R`.",
    ),
)

TWO_SERVERS = Topic(
    "database-two-servers",
    means="Another server runs on the same folder, or the file that says so was left over.",
    why="Two servers on one folder destroy it, so that PostgreSQL refuses to start.",
    see="`docker ps -a --filter volume=VOLUME`.",
    ways=(
        "Stop the other container.",
        "If none runs for sure, remove `postmaster.pid` in the volume.",
    ),
)

STARTING = Topic(
    "database-starting",
    means="The database is starting, stopping or recovering, and takes no connections yet.",
    why="Services that ask meanwhile fail, and are started again.",
    see="`cf logs INSTANCE --service postgres`.",
    ways=("Wait; it passes by itself unless another message says why not.",),
)

ROWS: tuple[Row, ...] = (
    Row(
        existing_data.VERSION,
        _DATABASE,
        r"database files are incompatible with server|was initialized by PostgreSQL version",
        "its volume belongs to another major version of PostgreSQL",
    ),
    Row(
        SHARED_MEMORY,
        _DATABASE,
        r"could not resize shared memory segment",
        "its shared memory does not suffice",
        fatal=False,
    ),
    Row(
        DISK_FULL,
        _DATABASE,
        r"No space left on device|could not extend file .*wrote only|Check free disk space",
        "its disk is full",
    ),
    Row(
        DAMAGED,
        _DATABASE,
        r"could not locate a valid checkpoint record|invalid page in block|"
        r"control file contains invalid|could not open (control )?file \"(\S*/)?global/pg_control|"
        r"is not a valid data directory|invalid checkpoint",
        "its files are damaged",
    ),
    Row(
        TWO_SERVERS,
        _DATABASE,
        r"lock file \"postmaster\.pid\" already exists|pre-existing shared memory block",
        "another server runs on its volume",
    ),
    Row(
        UNFINISHED,
        _DATABASE,
        r"exists but is not empty",
        "its folder holds files and no database",
    ),
    Row(
        NO_PASSWORD,
        _DATABASE,
        r"superuser password is not specified|password file .* is empty",
        "it was given no password",
    ),
    Row(
        PERMISSIONS,
        _DATABASE,
        r"chown: .*(Operation not permitted|Read-only file system|Permission denied)|"
        r"has wrong ownership|has (group or world access|invalid permissions)|"
        r"could not (open|create|access) .*: (Permission denied|Read-only file system)",
        "it may not use its files",
    ),
    Row(
        OUT_OF_MEMORY,
        _DATABASE,
        r"terminated by signal 9|could not map anonymous shared memory|out of memory|"
        r"Cannot allocate memory",
        "memory ran out",
    ),
    Row(WRONG_ARCHITECTURE, _DATABASE, r"exec format error", "its image is for another machine"),
    Row(
        database.PASSWORD,
        _DATABASE,
        r"password authentication failed for user",
        "somebody logs in with a wrong password",
        fatal=False,
    ),
    Row(
        database.USER,
        _DATABASE,
        r"FATAL: +role \"[^\"]*\" does not exist|DETAIL: +Role \"[^\"]*\" does not exist",
        "somebody logs in as a user that does not exist",
        fatal=False,
    ),
    Row(
        database.DATABASE,
        _DATABASE,
        r"FATAL: +database \"[^\"]*\" does not exist",
        "somebody asks for a database that does not exist",
        fatal=False,
    ),
    Row(
        database.ACCESS,
        _DATABASE,
        r"no pg_hba\.conf entry for host",
        "its pg_hba.conf refuses a service",
        fatal=False,
    ),
    Row(
        CONNECTIONS,
        _DATABASE,
        r"too many clients already|remaining connection slots are reserved|too many connections",
        "all its connections are taken",
        fatal=False,
    ),
    Row(
        STARTING,
        _DATABASE,
        r"the database system is (starting up|shutting down|in recovery mode|not yet accepting)",
        "it is not ready for connections",
        fatal=False,
    ),
    Row(
        RECOVERED,
        _DATABASE,
        r"was not properly shut down; automatic recovery|database system was interrupted",
        "it was killed before, and recovers",
        fatal=False,
    ),
)
"""The first that matches counts."""
