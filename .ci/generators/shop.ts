// Buys a mug with fetch and the types that openapi-typescript makes.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./holdfast.js";

type Order = components["schemas"]["Order"];
type Cart = components["schemas"]["CartReservationInput"];

const shop = createClient<paths>({ baseUrl: process.argv[2]! });

async function buy(): Promise<Order> {
  const product = await shop.POST("/v1/products", {
    body: { id: "typescript-mug", name: "Mug", price: { amount: 2 ** 40, currency: "EUR" }, totalStock: 100 },
  });
  assert(product.data, product.error?.detail);

  const cart: Cart = { lines: [{ productId: product.data.id, quantity: 3 }], ttlSeconds: 900, customerId: null };
  const header = { "Idempotency-Key": "typescript-1" };
  const held = await shop.POST("/v1/reservations", { body: cart, params: { header } });
  assert(held.data, held.error?.detail);

  const order = await shop.POST("/v1/orders", { body: { reservationId: held.data.id } });
  assert(order.data, order.error?.detail);
  assert.equal(order.data.status, "CONFIRMED" satisfies Order["status"]);
  assert.equal(order.data.total.amount, 3 * 2 ** 40);
  return order.data;
}

// look lists what is there now, and asks for what is not.
async function look(order: Order): Promise<void> {
  const products = await shop.GET("/v1/products", { params: { query: { id: ["typescript-mug", "nothing"] } } });
  assert.deepEqual(products.data?.data.map((p) => [p.id, p.committedStock]), [["typescript-mug", 3]]);

  const orders = await shop.GET("/v1/orders", { params: { query: { status: "CONFIRMED", limit: 1 } } });
  assert.equal(orders.data?.data[0]?.id, order.id);

  const events = await shop.GET("/v1/events", { params: { query: { limit: 1000 } } });
  const last = events.data?.data.at(-1);
  assert.deepEqual([last?.type, last?.subject, last?.data.order?.id], ["order.created", order.id, order.id]);

  const missing = await shop.GET("/v1/products/{id}", { params: { path: { id: "nothing" } } });
  assert.equal(missing.error?.code, "product-not-found");
}

const order = await buy();
await look(order);
console.log(`order ${order.id} is ${order.status}`);
