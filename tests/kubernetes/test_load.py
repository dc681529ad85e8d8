"""Engines come, go and change behind a release, and nobody who recognises notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.load import Load, Result
from tests.kubernetes.ground import Cluster, CommandFailed, wait_until
from tests.kubernetes.release import Release

Under = Callable[..., Result]


def image_of(name: str) -> dict[str, Any]:
    repository, _, tag = name.rpartition(":")
    return {"image": {"repository": repository, "tag": tag}}


def images_of_engines(release: Release) -> set[str]:
    pods = release.namespace.pods(release.selector("core"))
    return {pod["spec"]["containers"][0]["image"] for pod in pods}


def test_a_release_answers_and_its_own_test_passes(release: Release) -> None:
    assert release.answers()
    assert release.knows_grace()
    release.namespace.helm("test", release.name, "--timeout=60s")


def test_no_request_fails_while_engines_are_scaled_by_hand(
    release: Release, under_load: Under
) -> None:
    up = under_load(release, "1 -> 4 engines, by hand", lambda _: release.scale(4))
    down = under_load(release, "4 -> 1 engines, by hand", lambda _: release.scale(1))
    assert (up.failed, down.failed) == (0, 0), f"{up}\n{down}"


def test_helm_takes_back_a_number_of_engines_only_when_it_may(release: Release) -> None:
    release.upgrade(engine={"replicas": 1})
    release.scale(2)
    with pytest.raises(CommandFailed) as refused:
        release.upgrade(force=False)
    assert ".spec.replicas" in refused.value.said
    assert len(release.engines()) == 2
    release.upgrade()
    release.engines_are(1)


def test_no_request_fails_while_the_autoscaler_scales(
    release: Release, cluster: Cluster, under_load: Under
) -> None:
    cluster.start_metrics()
    scaling = {"enabled": True, "maxReplicas": 4, "cpuPercent": 60, "scaleDownSeconds": 15}
    release.upgrade(engine={"autoscaling": scaling})

    def grow(_: Load) -> None:
        release.engines_are(4, timeout_s=300)

    def shrink(_: Load) -> None:
        # One connection is more than one engine may have by 60 % of a fifth of a core.
        release.upgrade(engine={"autoscaling": {"cpuPercent": 1000}})
        release.engines_are(1, timeout_s=300)

    up = under_load(release, "1 -> 4 engines, by the autoscaler (CPU)", grow)
    down = under_load(release, "4 -> 1 engines, by the autoscaler (CPU)", shrink, 1)
    assert (up.failed, down.failed) == (0, 0), f"{up}\n{down}"


def test_no_request_fails_while_the_engine_gets_another_image_and_setting(
    release: Release, another_image: str, under_load: Under
) -> None:
    image = under_load(
        release, "a new image", lambda _: release.upgrade(engine=image_of(another_image))
    )
    assert images_of_engines(release) == {another_image}
    setting = under_load(
        release,
        "a new setting",
        lambda _: release.upgrade(engine={"settings": {"max_detect_size": 700}}),
    )
    pod = release.engines()[0]
    assert release.namespace.kubectl("exec", pod, "--", "printenv", "IMG_LENGTH_LIMIT") == "700"
    assert (image.failed, setting.failed) == (0, 0), f"{image}\n{setting}"


def test_an_image_that_never_gets_ready_is_rolled_back_and_no_request_fails(
    release: Release, unready_image: str, under_load: Under
) -> None:
    before, values = images_of_engines(release), release.values

    def fail(_: Load) -> None:
        with pytest.raises(CommandFailed):
            release.upgrade("--rollback-on-failure", timeout_s=30, engine=image_of(unready_image))

    result = under_load(release, "an image that never gets ready, rolled back by helm", fail)
    release.values = values
    release.engines_are(1)
    assert images_of_engines(release) == before
    assert result.failed == 0, str(result)


def test_no_request_fails_while_every_service_but_the_api_is_restarted(
    release: Release, under_load: Under
) -> None:
    def restart(_: Load) -> None:
        for component in ("core", "fe", "admin"):
            deployment = f"deployment/{release.name}-{component}"
            release.namespace.kubectl("rollout", "restart", deployment)
            release.namespace.rolled_out(deployment)

    result = under_load(release, "rolling restart of engine, UI and admin", restart)
    assert result.failed == 0, str(result)


def test_an_eviction_waits_for_the_budget_and_no_request_fails(
    release: Release, cluster: Cluster, under_load: Under
) -> None:
    release.upgrade(engine={"replicas": 2})
    release.engines_are(2)

    def drain(load: Load) -> None:
        first, second = release.engines()
        release.namespace.evict(first)
        with pytest.raises(CommandFailed) as refused:
            release.namespace.evict(second)
        assert "disruption budget" in refused.value.said
        wait_until(lambda: first not in release.engines(), "the end of the first", 60)
        release.engines_are(2)
        release.namespace.evict(second)
        release.engines_are(2)

    result = under_load(release, "two engines evicted, one after the other", drain)
    assert result.failed == 0, str(result)
