"""/v1/webhooks: receivers for all jobs, and what became of the messages."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from gnomon.server import problem
from gnomon.server.access import Caller, require
from gnomon.server.problem import refusals
from gnomon.server.routes.jobs import Here, Reader
from gnomon.server.webhooks import deliveries, endpoints
from gnomon.server.webhooks.deliveries import DeliveryState, Try
from gnomon.server.webhooks.endpoints import MAX_URL_CHARACTERS
from gnomon.server.webhooks.message import DEFAULT_EVENTS, Event

problem.add_statuses(endpoints.STATUSES | deliveries.STATUSES)

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

Admin = Annotated[Caller, Depends(require("admin"))]
EndpointId = Annotated[str, Path(max_length=64, description="`id` of the webhook")]
DeliveryId = Annotated[str, Path(max_length=64, description="`id` of the message")]


class EndpointOrder(BaseModel):
    """A receiver to register."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=MAX_URL_CHARACTERS, description="where messages are posted; http or https")
    events: tuple[Event, ...] = Field(DEFAULT_EVENTS, max_length=20, description="which events it is told of")


class EndpointView(BaseModel):
    """A registered receiver; its URL without user, password and query."""

    id: str
    url: str
    events: tuple[Event, ...]
    created_at: float
    disabled_because: str | None


class NewEndpoint(EndpointView):
    """The same with the secret for checking signatures, which is answered only here."""

    secret: str


class DeliveryView(BaseModel):
    """A message and the tries to deliver it. Times are Unix seconds."""

    id: str = Field(description="`webhook-id` of the message, the same in each try")
    state: DeliveryState
    event: str
    job: str
    endpoint: str | None = Field(description="the registered webhook; null for the job's own `webhook_url`")
    url: str
    created_at: float
    next_at: float | None = Field(description="when it is tried next; null unless pending")
    tries: tuple[Try, ...]


class DeliveryPage(BaseModel):
    """Messages, those of the newest jobs first."""

    deliveries: list[DeliveryView]
    next: str | None = Field(description="`before` of the next page; null on the last one")


class TestResult(BaseModel):
    """How a receiver took a test message."""

    __test__ = False

    delivered: bool
    status: int | None
    problem: str | None
    answer: str | None
    took_s: float


@router.post("/endpoints", status_code=201, responses=refusals(409))
def add_endpoint(order: EndpointOrder, service: Here, caller: Admin) -> NewEndpoint:
    """Register a receiver for the events of all jobs. Only this answer has its secret."""
    webhooks = service.webhooks
    made = webhooks.endpoints.add(order.url, order.events, allow_private=webhooks.sender.allow_private)
    return NewEndpoint(**made.shown(), secret=made.secret)


@router.get("/endpoints")
def list_endpoints(service: Here, caller: Admin) -> list[EndpointView]:
    """The registered receivers, oldest first."""
    return [EndpointView(**endpoint.shown()) for endpoint in service.webhooks.endpoints.all()]


@router.delete("/endpoints/{endpoint_id}", status_code=204, response_class=Response, responses=refusals(404))
def remove_endpoint(endpoint_id: EndpointId, service: Here, caller: Admin) -> None:
    """Forget a receiver. Messages that still wait for it are given up."""
    service.webhooks.endpoints.remove(endpoint_id)


@router.post("/endpoints/{endpoint_id}/test", responses=refusals(404))
async def test_endpoint(endpoint_id: EndpointId, service: Here, caller: Admin) -> TestResult:
    """Send a message of type `webhook.test` now, once, and say how it went."""
    endpoint = service.webhooks.endpoints.get(endpoint_id)
    began = time.monotonic()
    outcome = await service.webhooks.test(endpoint)
    return TestResult(
        delivered=outcome.problem is None,
        status=outcome.status,
        problem=outcome.problem,
        answer=outcome.answer,
        took_s=round(time.monotonic() - began, 3),
    )


@router.get("/deliveries", responses=refusals(422))
def list_deliveries(
    service: Here,
    caller: Reader,
    state: Annotated[DeliveryState | None, Query(description="only in this state")] = None,
    job: Annotated[str | None, Query(max_length=64, description="only about this job")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="most messages of a page")] = 50,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
) -> DeliveryPage:
    """Messages about the caller's jobs; about all jobs for a token with scope admin."""
    filters: dict[str, Any] = {"job": job, "sees": caller.sees, "before": before}
    found = service.webhooks.deliveries.page(state, limit=limit + 1, **filters)
    shown = [DeliveryView(**record) for record in found[:limit]]
    return DeliveryPage(deliveries=shown, next=shown[-1].id if len(found) > limit else None)


@router.post("/deliveries/{delivery_id}/resend", status_code=202, responses=refusals(404, 409))
def resend(delivery_id: DeliveryId, service: Here, caller: Admin) -> DeliveryView:
    """Send a dead message again, with all its tries anew and the same `webhook-id`."""
    return DeliveryView(**service.webhooks.resend(delivery_id).shown("pending"))
