"""The metadata server speaks the clouds' protocols, seen with a plain HTTP client."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

from spotweld.preemption.metadata_server import Faults, MetadataServer
from spotweld.preemption.notices import Kind

DEADLINE = 4_000_000_000.0
ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
PREEMPTED = "/computeMetadata/v1/instance/preempted"
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"


def ask(
    server: MetadataServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, HTTPResponse, bytes]:
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response, response.read()
    finally:
        connection.close()


def token(server: MetadataServer) -> dict[str, str]:
    status, _, body = ask(server, "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    assert status == 200
    return {"X-aws-ec2-metadata-token": body.decode()}


def test_aws_wants_a_ttl_for_a_token_and_a_token_for_everything_else(server: MetadataServer) -> None:
    assert ask(server, "/latest/api/token", method="PUT")[0] == 400
    assert ask(server, "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "0"}, "PUT")[0] == 400
    assert ask(server, ACTION)[0] == 401
    assert ask(server, ACTION, {"X-aws-ec2-metadata-token": "guess"})[0] == 401
    assert ask(server, ACTION, token(server))[0] == 404


def test_aws_forgotten_tokens_are_refused(server: MetadataServer) -> None:
    known = token(server)
    server.forget_tokens()
    assert ask(server, ACTION, known)[0] == 401


def test_aws_announces_both_kinds_and_withdraws(server: MetadataServer) -> None:
    known = token(server)
    server.announce(Kind.REBALANCE, DEADLINE)
    assert ask(server, ACTION, known)[0] == 404
    assert json.loads(ask(server, REBALANCE, known)[2]) == {"noticeTime": "2096-10-02T07:06:40.000Z"}
    server.announce(Kind.TERMINATE, DEADLINE)
    assert json.loads(ask(server, ACTION, known)[2]) == {"action": "terminate", "time": "2096-10-02T07:06:40.000Z"}
    server.withdraw()
    assert [ask(server, path, known)[0] for path in (ACTION, REBALANCE)] == [404, 404]


def test_gcp_wants_its_header_and_answers_a_long_poll_when_something_changes(server: MetadataServer) -> None:
    flavor = {"Metadata-Flavor": "Google"}
    assert ask(server, PREEMPTED)[0] == 403
    _, response, body = ask(server, PREEMPTED, flavor)
    assert body == b"FALSE"
    etag = response.headers["ETag"]
    waiting = f"{PREEMPTED}?wait_for_change=true&last_etag={etag}&timeout_sec=20"
    said: list[bytes] = []
    poll = threading.Thread(target=lambda: said.append(ask(server, waiting, flavor)[2]))
    poll.start()
    server.announce(Kind.TERMINATE, DEADLINE)
    poll.join()
    assert said == [b"TRUE"]
    assert ask(server, waiting, flavor)[2] == b"TRUE"  # an older etag is answered at once


def test_azure_wants_its_header_and_lists_events_until_they_vanish(server: MetadataServer) -> None:
    header = {"Metadata": "true"}
    assert ask(server, EVENTS)[0] == 400
    assert ask(server, "/metadata/instance/compute/name?api-version=2021-02-01&format=text", header)[2] == (
        server.machine.encode()
    )
    empty = json.loads(ask(server, EVENTS, header)[2])
    assert empty["Events"] == []
    server.announce(Kind.TERMINATE, DEADLINE)
    full = json.loads(ask(server, EVENTS, header)[2])
    assert full["DocumentIncarnation"] > empty["DocumentIncarnation"]
    (event,) = full["Events"]
    assert event["EventType"] == "Preempt"
    assert event["Resources"] == [server.machine]
    assert event["NotBefore"] == "Tue, 02 Oct 2096 07:06:40 GMT"
    server.announce(Kind.TERMINATE, 0.0)  # long past
    (started,) = json.loads(ask(server, EVENTS, header)[2])["Events"]
    assert (started["EventStatus"], started["NotBefore"]) == ("Started", "")
    server.withdraw()
    assert json.loads(ask(server, EVENTS, header)[2])["Events"] == []


def test_faults_replace_every_answer(server: MetadataServer) -> None:
    server.faults = Faults(status=500)
    assert ask(server, ACTION)[0] == 500
    server.faults = Faults(body=b"\xff")
    assert ask(server, ACTION)[2] == b"\xff"
    server.faults = Faults(redirect="http://127.0.0.1:1/")
    assert ask(server, ACTION)[0] == 302
    assert list(server.asked) == [f"GET {ACTION}"] * 3


def test_stop_hangs_up_on_long_polls_and_stalls_and_may_be_repeated() -> None:
    server = MetadataServer()
    server.start()
    flavor = {"Metadata-Flavor": "Google"}
    poll = threading.Thread(target=lambda: ask(server, f"{PREEMPTED}?wait_for_change=true&timeout_sec=1000", flavor))
    poll.start()
    while not server.asked:
        poll.join(0.01)
    server.stop()
    server.stop()
    poll.join()
