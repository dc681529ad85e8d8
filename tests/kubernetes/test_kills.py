"""What fails when a part is killed, and that no row is lost by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.load import Load, Result
from tests.kubernetes.conftest import note
from tests.kubernetes.ground import Cluster, wait_until
from tests.kubernetes.release import Release

Under = Callable[..., Result]
AWAY_S = 20


@pytest.fixture(autouse=True)
def no_row_is_lost(release: Release, request: pytest.FixtureRequest) -> Iterator[None]:
    before = release.rows()
    yield
    wait_until(release.answers, "all services answer", 120)
    after = release.rows()
    counts = ", ".join(f"{table} {count}" for table, (count, _) in before.items())
    note(
        f"rows and hashes before and after {request.node.name}: {counts}: "
        f"{'equal' if before == after else f'DIFFERENT: {after}'}"
    )
    assert before == after
    assert release.knows_grace()


def again(release: Release) -> None:
    """Until the killed part was missed and is back."""
    time.sleep(2)
    wait_until(lambda: release.answers() and release.knows_grace(), "known again", 120)


def test_a_killed_engine_of_two_fails_no_request(release: Release, under_load: Under) -> None:
    release.upgrade(engine={"replicas": 2})
    release.engines_are(2)

    def kill(_: Load) -> None:
        release.namespace.kill(release.engines()[0], "core")
        again(release)
        release.engines_are(2)

    def delete(_: Load) -> None:
        pod = release.engines()[0]
        release.namespace.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
        release.engines_are(2)

    killed = under_load(release, "one of two engines killed (SIGKILL)", kill)
    deleted = under_load(release, "the pod of one of two engines deleted by force", delete)
    # What it was computing is sent to the other one; only the api itself could lose a request.
    assert (killed.failed, deleted.failed) == (0, 0), f"{killed}\n{deleted}"


def test_the_only_engine_is_killed(release: Release, under_load: Under) -> None:
    def kill(_: Load) -> None:
        release.namespace.kill(release.engines()[0], "core")
        again(release)

    result = under_load(release, "the only engine killed (SIGKILL)", kill)
    assert set(result.by_status) <= {200, 500}


def test_the_database_is_killed(release: Release, under_load: Under) -> None:
    def kill(_: Load) -> None:
        release.namespace.kill(f"{release.name}-db-0", "postgres-db")
        again(release)

    def delete(_: Load) -> None:
        release.namespace.kubectl("delete", "pod", f"{release.name}-db-0")
        again(release)

    under_load(release, "the database killed (SIGKILL)", kill)
    under_load(release, "the database's pod deleted", delete)


@pytest.mark.parametrize("component", ["api", "admin", "fe"])
def test_a_service_is_killed(release: Release, under_load: Under, component: str) -> None:
    def kill(_: Load) -> None:
        (pod,) = release.namespace.ready(release.selector(component))
        release.namespace.kill(pod, component)
        again(release)

    result = under_load(release, f"{component} killed (SIGKILL)", kill)
    if component == "admin":
        assert result.failed == 0, str(result)


def test_no_request_fails_while_kubelet_is_away(
    release: Release, cluster: Cluster, under_load: Under
) -> None:
    def kill(load: Load) -> None:
        with cluster.stopped("kubelet"):
            time.sleep(AWAY_S)
            assert load.result.failed == 0, str(load.result)
        # A kubelet that starts takes no pod for ready until it has probed it.
        wait_until(lambda: not release.all_ready(), "pods that are not ready", 60)
        wait_until(release.all_ready, "all pods are ready", 60)

    under_load(release, f"kubelet killed, away for {AWAY_S} s, started again", kill)


def test_a_node_that_is_switched_off_comes_back_with_all_rows(
    release: Release, cluster: Cluster
) -> None:
    began = time.monotonic()
    cluster.power_cycle()
    wait_until(lambda: release.answers() and release.knows_grace(), "the stack", 300)
    note(
        f"kubelet, containerd and all pods killed: known again after "
        f"{time.monotonic() - began:.0f} s"
    )
