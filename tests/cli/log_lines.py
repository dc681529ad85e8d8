"""Lines that the services wrote when they failed, with the ID of what each means.

Most were provoked with the images of CompreFace 1.2.0 (Java 17, PostgreSQL 11.5, nginx 1.22) and
this engine; those of a GPU, of another architecture and of damaged files are as users report them.
"""

from __future__ import annotations

LINES: tuple[tuple[str, str, str], ...] = (
    (
        "core",
        "compreface-engine: port 38999 on 127.0.0.1 is taken by another process; set CF_PORT "
        "to a free one",
        "port-taken",
    ),
    (
        "core",
        "core ended with exit code 132: an illegal instruction",
        "cpu-instructions",
    ),
    (
        "core",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=gpu1 ; expr=cudaMalloc((void**)&p, "
        "size);",
        "gpu-out-of-memory",
    ),
    (
        "core",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; "
        "expr=cublasCreate(&cublas_handle_);",
        "gpu-out-of-memory",
    ),
    (
        "core",
        "compreface-engine: GPU_IDX=0 asks for a GPU, but this ONNX Runtime has no CUDA "
        "provider (it has AzureExecutionProvider, CPUExecutionProvider). Install the engine "
        "with its `gpu` extra, or set GPU_IDX=-1.",
        "gpu-unusable",
    ),
    (
        "core",
        "compreface-engine: ONNX Runtime could not start on GPU 0 and fell back to the CPU. "
        "CUDA driver version is insufficient for CUDA runtime version",
        "gpu-unusable",
    ),
    (
        "core",
        "OSError: [Errno 28] No space left on device",
        "service-disk-full",
    ),
    (
        "core",
        "compreface-engine: the system refused to start 64 threads (can't start new thread); "
        "set CF_MAX_CONCURRENCY to a lower number",
        "engine-threads",
    ),
    (
        "core",
        "Status Message: bfc_arena.cc:376 AllocateRawInternal Failed to allocate memory for "
        "requested buffer of size 13111296",
        "service-out-of-memory",
    ),
    (
        "core",
        "MemoryError",
        "service-out-of-memory",
    ),
    (
        "core",
        '{"time": "2026-11-30T21:00:00.000Z", "severity": "CRITICAL", "message": "a worker '
        "has been stuck for 31 s, so the engine is killed; running: detector 40x20 (1234 "
        'bytes)", "logger": "compreface_engine.watchdog"}',
        "engine-stuck",
    ),
    (
        "core",
        "compreface-engine: mtcnn_pnet.onnx cannot be loaded by ONNX Runtime: "
        "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from mtcnn_pnet.onnx "
        "failed:Protobuf parsing failed.. Prepare the model again, or choose another build.",
        "engine-model-damaged",
    ),
    (
        "core",
        "compreface-engine: facenet.Calculator needs the model `20180402-114759`, but "
        "/models/20180402-114759/model.json does not exist. Prepare it with `python -m "
        "compreface_convert`.",
        "engine-model-missing",
    ),
    (
        "core",
        "compreface-engine: CF_MODELS_DIR=/models: is not an existing folder",
        "engine-model-missing",
    ),
    (
        "core",
        "exec /usr/local/bin/python: exec format error",
        "image-architecture",
    ),
    (
        "core",
        "compreface-engine: CF_MAX_QUEUE=x: is not a whole number",
        "engine-settings",
    ),
    (
        "core",
        "compreface-core-1  | compreface-engine: CF_MAX_QUEUE=x: is not a whole number",
        "engine-settings",
    ),
    (
        "core",
        '{"time": "2026-11-30T21:00:00.000Z", "severity": "WARNING", "message": "answered", '
        '"logger": "compreface_engine", "request": {"id": "a", "method": "POST", "path": '
        '"/find_faces", "status": 503, "ms": 50001.2}}',
        "engine-overloaded",
    ),
    (
        "admin",
        "Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed "
        'for user "postgres"',
        "database-password",
    ),
    (
        "admin",
        "Caused by: liquibase.exception.DatabaseException: "
        'org.postgresql.util.PSQLException: FATAL: database "other" does not exist',
        "database-name",
    ),
    (
        "admin",
        "Error: Could not create the Java Virtual Machine.",
        "java-options",
    ),
    (
        "admin",
        "2026-11-30 22:05:18.395  INFO 7 --- [           main] liquibase.lockservice         "
        "           : Waiting for changelog lock....",
        "schema-lock",
    ),
    (
        "admin",
        "Caused by: org.postgresql.util.PSQLException: Connection to "
        "compreface-postgres-db:5433 refused. Check that the hostname and port are correct "
        "and that the postmaster is accepting TCP/IP connections.",
        "database-unreachable",
    ),
    (
        "admin",
        "Caused by: java.net.UnknownHostException: nowhere",
        "database-unreachable",
    ),
    (
        "admin",
        'Caused by: org.postgresql.util.PSQLException: FATAL: role "nobody" does not exist',
        "database-user",
    ),
    (
        "admin",
        "Caused by: org.postgresql.util.PSQLException: FATAL: no pg_hba.conf entry for host "
        '"172.18.0.5", user "postgres", database "frs", SSL off',
        "database-access",
    ),
    (
        "admin",
        "Caused by: org.postgresql.util.PSQLException: FATAL: the database system is starting up",
        "database-starting",
    ),
    (
        "admin",
        "Caused by: liquibase.exception.ValidationFailedException: Validation Failed:",
        "schema-changed",
    ),
    (
        "admin",
        "     1 change sets check sum",
        "schema-changed",
    ),
    (
        "admin",
        "exec /bin/sh: exec format error",
        "image-architecture",
    ),
    (
        "api",
        "Invalid maximum heap size: -Xmx4q",
        "java-options",
    ),
    (
        "api",
        "Initial heap size set to a larger value than the maximum heap size",
        "java-options",
    ),
    (
        "api",
        "Caused by: java.lang.OutOfMemoryError: Java heap space",
        "java-heap",
    ),
    (
        "api",
        "Caused by: org.postgresql.util.PSQLException: The connection attempt failed.",
        "database-unreachable",
    ),
    (
        "api",
        'java.lang.IllegalStateException: Cannot perform operation "subi" - shapes are not '
        "equal and are not broadcastable.first.shape=[3, 192], second.shape=[512]",
        "faces-mixed",
    ),
    (
        "api",
        "java.lang.IllegalStateException: Op name concat - no output arrays were provided "
        "and calculateOutputShape failed to execute",
        "faces-mixed",
    ),
    (
        "api",
        "feign.FeignException$ServiceUnavailable: [503 Service Unavailable] during [POST] to "
        "[http://compreface-core:3000/find_faces] "
        "[FacesFeignClient#findFaces(MultipartFile,Integer,Double,String,Boolean)]: "
        '[{"message":"503 Service Unavailable: the queue is full"}]',
        "engine-overloaded",
    ),
    (
        "api",
        "feign.RetryableException: Connection refused executing POST "
        "http://compreface-core:3000/find_faces?limit=0&face_plugins=",
        "engine-unreachable",
    ),
    (
        "api",
        "java.net.UnknownHostException: compreface-core",
        "engine-unreachable",
    ),
    (
        "api",
        "2026-11-30 22:08:00.100  INFO 7 --- [    Thread-3] "
        "c.e.f.c.t.s.NotificationReceiverService  : face_collection_update_msg closed",
        "api-listener-lost",
    ),
    (
        "api",
        "Caused by: org.postgresql.util.PSQLException: FATAL: sorry, too many clients already",
        "database-connections",
    ),
    (
        "api",
        "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not "
        "available, request timed out after 30000ms.",
        "database-connections",
    ),
    (
        "api",
        "# There is insufficient memory for the Java Runtime Environment to continue.",
        "service-out-of-memory",
    ),
    (
        "api",
        "java.io.IOException: No space left on device",
        "service-disk-full",
    ),
    (
        "fe",
        '2026/11/30 22:02:09 [emerg] 1#1: host not found in upstream "compreface-core:3000" '
        "in /etc/nginx/conf.d/nginx.conf:10",
        "ui-no-upstream",
    ),
    (
        "fe",
        '2026/11/30 22:02:13 [emerg] 1#1: "client_max_body_size" directive invalid value in '
        "/etc/nginx/conf.d/nginx.conf:18",
        "ui-variables",
    ),
    (
        "fe",
        "2026/11/30 22:02:19 [error] 14#14: *3 client intended to send too large body: "
        '12000153 bytes, client: 172.18.0.1, server: ui, request: "POST '
        '/api/v1/detection/detect HTTP/1.1", host: "127.0.0.1:18700"',
        "request-too-large",
    ),
    (
        "fe",
        "2026/11/30 22:02:30 [error] 14#14: *4 upstream timed out (110: Connection timed "
        'out) while connecting to upstream, client: 172.18.0.1, server: ui, request: "GET '
        '/api/v1/config HTTP/1.1", upstream: "http://172.18.0.4:8080/api/v1/config", host: '
        '"127.0.0.1:18700"',
        "ui-timeout",
    ),
    (
        "fe",
        "2026/11/30 22:02:19 [error] 14#14: *1 connect() failed (111: Connection refused) "
        'while connecting to upstream, client: 172.18.0.1, server: ui, request: "GET '
        '/core/status HTTP/1.1", upstream: "http://127.0.0.2:3000/status", host: '
        '"127.0.0.1:18700"',
        "ui-silent",
    ),
    (
        "fe",
        "2026/11/30 22:02:19 [error] 14#14: *1 compreface-api could not be resolved (3: Host "
        'not found), client: 172.18.0.1, server: ui, request: "GET /api/v1/config HTTP/1.1", '
        'host: "127.0.0.1:18700"',
        "ui-silent",
    ),
    (
        "fe",
        '2026/11/30 22:02:13 [emerg] 1#1: open() "/etc/nginx/nginx.conf" failed (13: '
        "Permission denied)",
        "ui-not-readable",
    ),
    (
        "fe",
        "2026/11/30 22:02:13 [crit] 14#14: *1 pwrite() "
        '"/var/cache/nginx/client_temp/0000000001" failed (28: No space left on device)',
        "service-disk-full",
    ),
    (
        "fe",
        "exec /docker-entrypoint.sh: exec format error",
        "image-architecture",
    ),
    (
        "postgres",
        "2026-11-30 21:55:52.556 UTC [1] FATAL:  database files are incompatible with server",
        "volume-postgres-version",
    ),
    (
        "postgres",
        "2026-11-30 21:55:52.556 UTC [1] DETAIL:  The data directory was initialized by "
        "PostgreSQL version 15, which is not compatible with this version 11.5.",
        "volume-postgres-version",
    ),
    (
        "postgres",
        "2026-11-30 21:56:37.711 UTC [59] ERROR:  could not resize shared memory segment "
        '"/PostgreSQL.1543277407" to 1048576 bytes: No space left on device',
        "database-shared-memory",
    ),
    (
        "postgres",
        '2026-11-30 21:56:12.887 UTC [28] FATAL:  could not write to file "base/12367/1249": '
        "No space left on device",
        "service-disk-full",
    ),
    (
        "postgres",
        '2026-11-30 21:56:25.299 UTC [58] ERROR:  could not extend file "base/12368/16395": '
        "wrote only 4096 of 8192 bytes at block 2495",
        "service-disk-full",
    ),
    (
        "postgres",
        "2026-11-30 21:56:25.299 UTC [58] HINT:  Check free disk space.",
        "service-disk-full",
    ),
    (
        "postgres",
        "2024-03-14 09:37:49.358 EET [34] PANIC:  could not locate a valid checkpoint record",
        "database-damaged",
    ),
    (
        "postgres",
        '2026-11-30 21:56:40.854 UTC [1] FATAL:  lock file "postmaster.pid" already exists',
        "database-two-servers",
    ),
    (
        "postgres",
        'initdb: directory "/var/lib/postgresql/data" exists but is not empty',
        "database-folder",
    ),
    (
        "postgres",
        'initdb: error: directory "/var/lib/postgresql/data" exists but is not empty',
        "database-folder",
    ),
    (
        "postgres",
        "Error: Database is uninitialized and superuser password is not specified.",
        "database-no-password",
    ),
    (
        "postgres",
        'initdb: password file "/dev/fd/63" is empty',
        "database-no-password",
    ),
    (
        "postgres",
        "chown: changing ownership of '/var/lib/postgresql/data': Operation not permitted",
        "volume-permissions",
    ),
    (
        "postgres",
        "chown: changing ownership of '/var/run/postgresql': Read-only file system",
        "volume-permissions",
    ),
    (
        "postgres",
        '2026-11-30 21:56:40.854 UTC [1] FATAL:  data directory "/var/lib/postgresql/data" '
        "has wrong ownership",
        "volume-permissions",
    ),
    (
        "postgres",
        "2026-11-30 21:56:40.854 UTC [1] LOG:  server process (PID 58) was terminated by "
        "signal 9: Killed",
        "service-out-of-memory",
    ),
    (
        "postgres",
        "exec /usr/local/bin/docker-entrypoint.sh: exec format error",
        "image-architecture",
    ),
    (
        "postgres",
        "2026-11-30 21:59:11.822 UTC [25] FATAL:  password authentication failed for user "
        '"postgres"',
        "database-password",
    ),
    (
        "postgres",
        '2026-11-30 21:59:10.667 UTC [24] DETAIL:  Role "nobody" does not exist.',
        "database-user",
    ),
    (
        "postgres",
        '2026-11-30 21:59:12.170 UTC [26] FATAL:  database "other" does not exist',
        "database-name",
    ),
    (
        "postgres",
        "2026-11-30 21:59:12.170 UTC [26] FATAL:  no pg_hba.conf entry for host "
        '"172.18.0.4", user "postgres", database "frs", SSL off',
        "database-access",
    ),
    (
        "postgres",
        "2026-11-30 21:58:12.318 UTC [123] FATAL:  sorry, too many clients already",
        "database-connections",
    ),
    (
        "postgres",
        "2026-11-30 21:58:23.121 UTC [40] FATAL:  the database system is starting up",
        "database-starting",
    ),
    (
        "postgres",
        "2026-11-30 21:58:23.230 UTC [17] LOG:  database system was not properly shut down; "
        "automatic recovery in progress",
        "database-recovered",
    ),
    (
        "postgres",
        "2026-11-30 21:58:23.121 UTC [17] LOG:  database system was interrupted; last known "
        "up at 2026-11-30 21:58:07 UTC",
        "database-recovered",
    ),
)
