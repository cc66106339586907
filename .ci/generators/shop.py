"""Buys a mug with the package that openapi-python-client makes."""

import sys

from holdfast_shop import Client
from holdfast_shop.api.events import list_events
from holdfast_shop.api.orders import create_order
from holdfast_shop.api.products import create_product, get_product, list_products
from holdfast_shop.api.reservations import create_reservation, list_reservations
from holdfast_shop.models import (
    CartReservationInput,
    EventPage,
    EventTypeType0,
    LineInput,
    ListReservationsStatus,
    MoneyInput,
    Order,
    OrderInput,
    OrderStatusType0,
    Problem,
    ProblemCodeType0,
    Product,
    ProductInput,
    ProductPage,
    Reservation,
    ReservationPage,
)


def buy(shop: Client) -> Order:
    mug = ProductInput(name="Mug", price=MoneyInput(1 << 40, "EUR"), id="python-mug", total_stock=100)
    product = create_product.sync(client=shop, body=mug)
    assert isinstance(product, Product), product

    # None is sent as null, which is as good as nothing.
    cart = CartReservationInput(
        lines=[LineInput(product.id, 2, location=None), LineInput(product.id, 1)], ttl_seconds=None
    )
    held = create_reservation.sync(client=shop, body=cart, idempotency_key="python-1")
    assert isinstance(held, Reservation), held
    again = create_reservation.sync(client=shop, body=cart, idempotency_key="python-1")
    assert isinstance(again, Reservation) and again.id == held.id, again
    # The server's own default, then.
    assert (held.expires_at - held.created_at).total_seconds() == 600, held

    order = create_order.sync(client=shop, body=OrderInput(reservation_id=held.id, reference="payment"))
    assert isinstance(order, Order), order
    assert order.status is OrderStatusType0.CONFIRMED and order.total.amount == 3 << 40, order
    return order


def look(shop: Client, order: Order) -> None:
    """Lists what is there now, and asks for what is not."""
    products = list_products.sync(client=shop, id=["python-mug", "nothing"])  # no limit goes with it
    assert isinstance(products, ProductPage), products
    assert [(p.id, p.committed_stock, p.available_stock) for p in products.data] == [("python-mug", 3, 97)], products
    assert products.next_cursor is None, products

    confirmed = list_reservations.sync(client=shop, status=ListReservationsStatus.CONFIRMED, limit=1)
    assert isinstance(confirmed, ReservationPage), confirmed
    assert [r.order_id for r in confirmed.data] == [order.id], confirmed

    events = list_events.sync(client=shop, limit=1000)
    assert isinstance(events, EventPage), events
    last = events.data[-1]
    assert last.type_ is EventTypeType0.ORDER_CREATED and last.subject == order.id, last

    missing = get_product.sync("nothing", client=shop)
    assert isinstance(missing, Problem) and missing.code is ProblemCodeType0.PRODUCT_NOT_FOUND, missing


def main() -> None:
    with Client(base_url=sys.argv[1], raise_on_unexpected_status=True) as shop:
        order = buy(shop)
        look(shop, order)
    print(f"order {order.id} is {order.status}")


main()
