"""Messages of the two Java services, `admin` and `api`: Spring, Hikari, Liquibase, Feign, ND4J."""

from __future__ import annotations

from compreface_cli.checks import database, log_engine, log_postgres
from compreface_cli.checks.log_row import DISK_FULL, OUT_OF_MEMORY, WRONG_ARCHITECTURE, Row
from compreface_cli.topics import Topic

_JAVA = ("admin", "api")
_API = ("api",)

HEAP = Topic(
    "java-heap",
    means="A Java service used up the memory that `-Xmx` gives it.",
    why="Its requests fail, or it ends. The api holds all embeddings of a service in memory.",
    see="`cf logs INSTANCE --service api` has `java.lang.OutOfMemoryError`.",
    ways=(
        "Raise `-Xmx` in API_JAVA_OPTS or ADMIN_JAVA_OPTS, then `cf up` again; the machine "
        "must have that memory.",
    ),
)

OPTIONS = Topic(
    "java-options",
    means="Java does not accept its options: API_JAVA_OPTS or ADMIN_JAVA_OPTS.",
    why="The service ends at its start.",
    see="The message names the option.",
    ways=("Correct the variable: `-Xmx4g`, and `-Xms` not above it; then `cf up` again.",),
)

NO_DATABASE = Topic(
    "database-unreachable",
    means="A service does not reach the database: its name does not resolve, or nothing answers.",
    why="It ends, or answers its users with errors.",
    see="`cf status` shows the database, `cf logs INSTANCE --service postgres` why it does "
    "not run.",
    ways=(
        "See why the database does not run; `cf restart INSTANCE --all` starts all in order.",
        "For an external database, correct CF_POSTGRES_HOST and CF_POSTGRES_PORT.",
    ),
)

SCHEMA_CHANGED = Topic(
    "schema-changed",
    means="The schema of the database was made by another version of CompreFace than runs, or was "
    "changed by hand: the checksums of its change sets differ.",
    why="Admin ends rather than migrate it.",
    see="The message lists the change sets; `select id, md5sum from databasechangelog`.",
    ways=(
        "Run the version that made it: CF_ADMIN_VERSION and CF_API_VERSION.",
        "Restore a backup of that version: `cf data restore FILE`.",
    ),
)

NO_ENGINE = Topic(
    "engine-unreachable",
    means="The api does not reach the engine, or the engine gave no answer in time.",
    why="Every recognition answers 500 meanwhile.",
    see="`cf status`, and `cf logs INSTANCE --service core`.",
    ways=(
        "`cf restart INSTANCE` starts the engine again.",
        "A slow engine: see `cf explain engine-overloaded`.",
    ),
)

LISTENER = Topic(
    "api-listener-lost",
    means="The api lost the connection on which other replicas of it say what has changed.",
    why="With one api nothing is lost. With several, each no longer learns what is added or "
    "deleted at the others, and goes on recognising subjects that are gone.",
    see="`cf logs INSTANCE --service api`, after a restart of the database.",
    ways=("`cf restart INSTANCE --all`, or restart each replica of the api.",),
)

ROWS: tuple[Row, ...] = (
    Row(
        database.PASSWORD,
        _JAVA,
        r"password authentication failed for user",
        "the database refuses its password",
    ),
    Row(
        database.USER,
        _JAVA,
        r"FATAL: role \"[^\"]*\" does not exist",
        "the database has no such user",
    ),
    Row(
        database.DATABASE,
        _JAVA,
        r"FATAL: database \"[^\"]*\" does not exist",
        "there is no database of that name",
    ),
    Row(
        database.ACCESS,
        _JAVA,
        r"no pg_hba\.conf entry for host",
        "the database refuses connections from it",
    ),
    Row(
        log_postgres.CONNECTIONS,
        _JAVA,
        r"too many clients already|remaining connection slots are reserved|"
        r"Connection is not available, request timed out",
        "the database has no free connection",
    ),
    Row(
        log_postgres.STARTING,
        _JAVA,
        r"the database system is (starting up|shutting down|in recovery mode|not yet accepting)",
        "the database is not ready",
    ),
    Row(
        NO_DATABASE,
        _JAVA,
        r"UnknownHostException: (?!compreface-core)|Connection to \S+ refused|"
        r"The connection attempt failed",
        "it does not reach the database",
    ),
    Row(
        database.LOCK,
        _JAVA,
        r"Waiting for changelog lock|Could not acquire change log lock",
        "the lock of the schema is held",
    ),
    Row(
        SCHEMA_CHANGED,
        _JAVA,
        r"ValidationFailedException|change sets? check sum|but is now: \d:",
        "the schema belongs to another version",
    ),
    Row(
        OPTIONS,
        _JAVA,
        r"Could not create the Java Virtual Machine|Invalid maximum heap size|"
        r"Unrecognized (VM )?option|Initial heap size set to a larger value|"
        r"exceeds the maximum representable size|Too small maximum heap",
        "Java refuses its options",
    ),
    Row(
        OUT_OF_MEMORY,
        _JAVA,
        r"insufficient memory for the Java Runtime|Native memory allocation|"
        r"unable to create native thread|Could not reserve enough space",
        "memory ran out",
    ),
    Row(HEAP, _JAVA, r"java\.lang\.OutOfMemoryError|GC overhead limit", "its heap is used up"),
    Row(DISK_FULL, _JAVA, r"No space left on device", "the disk is full"),
    Row(WRONG_ARCHITECTURE, _JAVA, r"exec format error", "its image is for another machine"),
    Row(
        database.MIXED,
        _API,
        r'Cannot perform operation "subi" - shapes are not equal|no output arrays were provided',
        "a collection holds embeddings of several calculators",
        fatal=False,
    ),
    Row(
        log_engine.OVERLOADED,
        _API,
        r"\[503 Service Unavailable\] during \[POST\]|FeignException\$ServiceUnavailable",
        "the engine refused a request, since too many wait",
        fatal=False,
    ),
    Row(
        NO_ENGINE,
        _API,
        r"executing (GET|POST) http://\S+/(status|find_faces|scan_faces)|"
        r"UnknownHostException: compreface-core",
        "it does not reach the engine",
        fatal=False,
    ),
    Row(
        LISTENER,
        _API,
        r"face_collection_update_msg closed|Error during connection to Postgres",
        "its connection for messages of other replicas is lost",
        fatal=False,
    ),
)
"""The first that matches counts."""
